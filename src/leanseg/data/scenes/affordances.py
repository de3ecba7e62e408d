"""What things are for: sets of items that a sentence asks for without naming them.

Each set lists who certainly belongs (`includes`, item or category names) and who perhaps does (`unclear`); a scene
that shows an unclear one never gets an instruction of that set. The phrases are neutral about number, because the
answer is every member in the picture. The last phrase of each set is held out of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from leanseg.data.scenes.categories import expand


@dataclass(frozen=True)
class Affordance:
    """A set of items and the ways of asking for it; the last phrase is held out."""

    name: str
    includes: tuple[str, ...]
    unclear: tuple[str, ...]
    phrases: tuple[str, ...]


# fmt: off
AFFORDANCES: tuple[Affordance, ...] = (
    Affordance("travel", ("vehicle",),
        ("rocket", "skateboard", "sled", "horse", "camel", "elephant", "shopping cart"),
        ("what you can ride to your destination", "whatever could take you from one place to another",
         "which of these can you travel in or on?", "what would carry you to another town?")),
    Affordance("eat", ("food item",),
        ("drink", "mushroom", "carved pumpkin", "plant", "sea animal", "farm animal", "duck", "deer", "rabbit",
         "snail", "frog", "turtle", "teapot"),
        ("what you can eat", "whatever would help if you are hungry",
         "which of these could be served as a meal or a snack?", "what could you take a bite of?")),
    Affordance("drink", ("drink",),
        ("teapot", "ice cream cone", "bucket", "fruit", "tomato", "cucumber", "snowflake"),
        ("what you can drink", "whatever would help if you are thirsty", "which of these could you sip?",
         "what quenches your thirst?")),
    Affordance("feet", ("shoe", "boot", "pair of socks"),
        ("skateboard",),
        ("what you wear on your feet", "whatever protects your feet when you walk",
         "which of these goes over your toes?", "what would you put on your feet before going out?")),
    Affordance("head", ("hat", "crown"),
        ("pair of glasses", "scarf", "snowman"),
        ("what you wear on your head", "whatever sits on top of your hair",
         "which of these do you put on your head?", "what do people wear on the top of the head?")),
    Affordance("warm", ("coat", "scarf", "pair of gloves"),
        ("pair of socks", "flame", "hat", "cup of coffee", "boot", "t-shirt", "pair of jeans", "candle", "bed",
         "teapot", "piece of clothing", "shoe", "tent"),
        ("what you put on to keep warm in winter", "whatever you would wear in the snow",
         "which of these keeps your body from freezing outdoors?", "what should you wear when it is cold outside?")),
    Affordance("music", ("musical instrument",),
        ("bell", "bow and arrow", "mobile phone", "laptop", "television", "alarm clock"),
        ("what you can make music with", "whatever a musician plays", "which of these could be used in a band?",
         "what makes music on a stage?")),
    Affordance("cut", ("pair of scissors", "knife", "axe", "saw"),
        ("screwdriver",),
        ("what you can cut with", "whatever has a sharp blade", "which of these could slice something apart?",
         "what would you use to cut something in two?")),
    Affordance("time", ("watch", "alarm clock", "hourglass"),
        ("mobile phone", "laptop", "television", "bell", "rooster", "crescent moon", "newspaper", "church"),
        ("what tells you the time", "whatever measures hours or minutes",
         "which of these measures how time passes?", "what keeps track of the time?")),
    Affordance("draw", ("pencil", "paintbrush"),
        ("laptop", "mobile phone"),
        ("what you can draw a picture with", "whatever an artist uses on paper",
         "which of these leaves marks on paper?", "what would you use to make a drawing?")),
    Affordance("light", ("candle", "flashlight", "light bulb"),
        ("flame", "star", "crescent moon", "mobile phone", "television", "laptop", "carved pumpkin", "couch",
         "vehicle", "camera", "birthday cake", "rocket"),
        ("what lights up a dark room", "whatever helps you to see in the dark",
         "which of these gives light at night?", "what brightens the darkness?")),
    Affordance("call", ("mobile phone", "telephone"),
        ("laptop", "bell", "robot", "television"),
        ("what you can call a friend with", "whatever lets you speak with someone far away",
         "which of these rings when somebody wants to talk to you?", "what would you use to phone somebody?")),
    Affordance("photograph", ("camera",),
        ("mobile phone", "laptop", "telescope", "microscope", "backpack"),
        ("what you can take a photograph with", "whatever captures a picture of your holiday",
         "which of these has a lens to take photos?", "what does a photographer carry?")),
    Affordance("rest", ("chair", "couch", "bed"),
        ("vehicle", "tent", "house", "castle", "teddy bear", "sled", "bucket", "church", "horse", "rocket",
         "skateboard", "gift", "camel", "elephant"),
        ("what you can rest on when you are tired", "whatever you might sit or lie down on at home",
         "which of these would you use to relax your legs?", "what offers a place to sit or lie?")),
    Affordance("wings", ("eagle", "owl", "parrot", "duck", "swan", "flamingo", "bee", "butterfly", "bat", "mosquito"),
        ("rooster", "penguin", "ladybug", "ant", "dragon", "airplane", "cricket", "helicopter", "ghost", "peacock"),
        ("what is alive and can fly", "whatever flaps its wings", "which of these is a living thing that can fly?",
         "which creature can take off into the sky?")),
    Affordance("water", ("sea animal",),
        ("turtle", "crocodile", "frog", "penguin", "duck", "swan", "flamingo", "boat", "ship", "ferry",
         "hippopotamus"),
        ("what lives in the sea", "whatever a diver may meet in the ocean",
         "which of these has its home under water?", "what would you find swimming or crawling in the ocean?")),
    Affordance("extinguish", ("fire extinguisher",),
        ("bucket", "fire truck", "drink", "teapot", "sponge", "mobile phone", "telephone", "ambulance"),
        ("what you need to stop something from burning", "whatever puts out a fire", "which of these stops a fire?",
         "what would save your kitchen from a blaze?")),
    Affordance("unlock", ("key",),
        ("padlock",),
        ("what opens a lock", "whatever you turn to open your front door", "which of these unlocks something?",
         "what do you need when the door is locked?")),
    Affordance("clean", ("broom", "sponge"),
        ("bucket", "fire extinguisher", "paintbrush", "glass of milk", "pair of gloves", "robot"),
        ("what you can clean the kitchen with", "whatever removes dirt", "which of these helps with the housework?",
         "what would you use to tidy up a dirty place?")),
    Affordance("see", ("magnifying glass", "telescope", "microscope"),
        ("pair of glasses", "camera", "television", "laptop", "mobile phone"),
        ("what shows you things that are too small or too far for your eyes", "whatever a scientist looks through",
         "which of these makes things look bigger?", "what enlarges the view?")),
    Affordance("heal", ("syringe", "stethoscope", "pill"),
        ("ambulance", "candy", "lollipop", "pair of glasses", "microscope", "bed", "pair of scissors", "laptop",
         "watch", "chair", "pair of gloves"),
        ("what a doctor may need for a patient", "whatever a nurse works with",
         "which of these is for health care?", "what is useful in medical care?")),
    Affordance("pay", ("bag of money", "credit card"),
        ("mobile phone", "watch", "shopping cart", "trophy", "crown"),
        ("what you can pay with", "whatever you need to buy something", "which of these settles the bill?",
         "what would you pay the cashier with?")),
    Affordance("rain", ("umbrella",),
        ("tent", "coat", "hat", "boot", "vehicle", "mushroom", "house", "castle", "church", "factory"),
        ("what keeps you dry in the rain", "whatever you open when it starts to rain",
         "which of these protects you from a shower?", "what is handy on a rainy day?")),
    Affordance("shelter", ("house", "castle", "tent"),
        ("church", "factory", "vehicle", "bed", "snail", "turtle", "rocket"),
        ("what people can live or sleep in", "whatever gives you a roof over your head",
         "which of these could be a home?", "where could a family stay overnight?")),
    Affordance("game", ("ball",),
        ("dartboard", "balloon", "kite", "trophy", "game controller", "tangerine", "skateboard", "magnifying glass",
         "bird", "insect", "bat", "dragon", "kangaroo", "rabbit", "frog", "aircraft", "rocket", "bow and arrow"),
        ("what players kick, throw or hit in a match", "whatever a sports team passes around",
         "which of these could bounce or fly across a playing field?", "what does a team need to start the game?")),
    Affordance("bouquet", ("flower",),
        ("gift", "chocolate bar", "pine tree", "palm tree", "cactus", "head of broccoli", "fruit", "house", "balloon",
         "teddy bear"),
        ("what smells sweet in a garden", "whatever belongs in a bouquet", "which of these could stand in a vase?",
         "what would a florist sell?")),
    Affordance("fix", ("hammer", "wrench", "screwdriver", "saw"),
        ("axe", "knife", "pair of scissors", "key", "paintbrush", "broom", "sponge", "bucket", "flashlight",
         "pencil", "pair of gloves"),
        ("what you can repair a chair with", "whatever lies in a toolbox",
         "which of these does a carpenter or mechanic use?", "what would help you to fix a broken table?")),
    Affordance("saddle", ("horse", "camel", "elephant"),
        ("cow", "pig", "goat", "zebra", "giraffe", "vehicle", "dragon", "deer", "sled", "skateboard", "sheep",
         "rhinoceros", "dolphin", "turtle", "gorilla", "hippopotamus"),
        ("which animal can carry a rider?", "whatever is alive and can be ridden",
         "which of these creatures do people ride?", "what living thing could you climb on for a ride?")),
    Affordance("winter", ("snowflake", "snowman", "sled"),
        ("coat", "scarf", "pair of gloves", "pine tree", "penguin", "pair of socks", "boot", "hat", "star", "gift",
         "ice cream cone"),
        ("what makes you think of snow", "whatever belongs to a day in the snow",
         "which of these goes with ice and snow?", "what reminds you of a snowy day?")),
    Affordance("night", ("star", "crescent moon"),
        ("rocket", "owl", "bat", "airplane", "helicopter", "ghost", "candle", "telescope", "snowflake",
         "flashlight", "light bulb"),
        ("what shines in the night sky", "whatever astronomers look at", "which of these is far away in space?",
         "what do you see above you on a clear night?")),
    Affordance("read", ("book", "newspaper"),
        ("laptop", "mobile phone", "credit card", "television"),
        ("what you can read", "whatever is printed on pages", "which of these is full of printed text?",
         "what could you open and read at breakfast?")),
    Affordance("carry", ("backpack", "shopping cart"),
        ("bucket", "bag of money", "gift", "vehicle", "sled", "ship", "rocket", "horse", "camel", "elephant",
         "box of fries", "box of popcorn"),
        ("what you can put your shopping in", "whatever helps you to carry many things",
         "which of these holds your groceries?", "what would you load with your purchases?")),
    Affordance("video game", ("laptop", "mobile phone", "game controller", "television"),
        ("telephone", "camera", "watch", "robot", "guitar"),
        ("what you could play a video game on or with", "whatever runs on electricity and entertains you",
         "which of these does a gamer use?", "what could keep you busy with video games?")),
    Affordance("sting", ("bee", "scorpion"),
        ("snake", "spider", "ant", "ladybug", "dragon", "pufferfish", "hedgehog", "cactus", "mosquito",
         "syringe", "rose"),
        ("which small creature may sting you?", "whatever could sting you", "which of these has a sting?",
         "what carries a stinger on its body?")),
)
# fmt: on


@cache
def affordance_sets(index: int) -> tuple[frozenset[int], frozenset[int]]:
    """Return (members, unclear items) of an affordance as item indices."""
    entry = AFFORDANCES[index]
    inside = expand(entry.includes)
    return inside, expand(entry.unclear) - inside
