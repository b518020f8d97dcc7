"""The 98 things a built-in scene can show, and every word its caption can contain.

A class is one pictogram drawn by several designers. Its phrase carries the right article, so that captions are
grammatical by construction: "an owl", "a pair of scissors", "some grapes".
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneClass:
    """One class of object.

    name: short unique identifier. phrase: noun phrase with its article. group: one of `GROUPS`.
    codepoint: the Unicode character that designers draw. plural: whether the phrase takes "are".
    """

    name: str
    phrase: str
    group: str
    codepoint: int
    plural: bool = False

    @property
    def noun(self) -> str:
        """The phrase without its article: "owl", "pair of scissors", "grapes"."""
        return self.phrase.split(" ", 1)[1]


_TABLE = {
    "animal": """
        cat 1f431 a cat; dog 1f436 a dog; mouse 1f42d a mouse; rabbit 1f430 a rabbit; fox 1f98a a fox;
        bear 1f43b a bear; panda 1f43c a panda; koala 1f428 a koala; tiger 1f42f a tiger; lion 1f981 a lion;
        cow 1f42e a cow; pig 1f437 a pig; frog 1f438 a frog; monkey 1f435 a monkey; chicken 1f414 a chicken;
        penguin 1f427 a penguin; owl 1f989 an owl;
        unicorn 1f984 a unicorn; bee 1f41d a bee; ladybug 1f41e a ladybug; butterfly 1f98b a butterfly;
        turtle 1f422 a turtle; snake 1f40d a snake; octopus 1f419 an octopus; crab 1f980 a crab; whale 1f433 a whale;
        elephant 1f418 an elephant; snail 1f40c a snail""",
    "food": """
        apple 1f34e an apple; pear 1f350 a pear; lemon 1f34b a lemon; banana 1f34c a banana;
        watermelon 1f349 a slice of watermelon; grapes 1f347 some grapes; strawberry 1f353 a strawberry;
        cherries 1f352 some cherries; pineapple 1f34d a pineapple; tomato 1f345 a tomato; eggplant 1f346 an eggplant;
        carrot 1f955 a carrot; corn 1f33d an ear of corn; mushroom 1f344 a mushroom; broccoli 1f966 some broccoli;
        bread 1f35e a loaf of bread; cheese 1f9c0 a piece of cheese; pizza 1f355 a slice of pizza;
        hamburger 1f354 a hamburger; donut 1f369 a donut; cake 1f370 a piece of cake; icecream 1f366 an ice cream""",
    "nature": """
        rose 1f339 a rose; sunflower 1f33b a sunflower; cactus 1f335 a cactus; tree 1f333 a tree; leaf 1f341 a leaf;
        sun 2600 a sun; moon 1f319 a moon; star 2b50 a star; cloud 2601 a cloud; rainbow 1f308 a rainbow;
        snowman 26c4 a snowman; fire 1f525 a fire""",
    "vehicle": """
        car 1f697 a car; taxi 1f695 a taxi; bus 1f68c a bus; bicycle 1f6b2 a bicycle; rocket 1f680 a rocket;
        sailboat 26f5 a sailboat; firetruck 1f692 a fire truck; tractor 1f69c a tractor;
        helicopter 1f681 a helicopter""",
    "object": """
        soccerball 26bd a soccer ball; basketball 1f3c0 a basketball; guitar 1f3b8 a guitar; drum 1f941 a drum;
        umbrella 2602 an umbrella; balloon 1f388 a balloon; gift 1f381 a gift; lightbulb 1f4a1 a light bulb;
        key 1f511 a key; hammer 1f528 a hammer; scissors 2702 a pair of scissors; book 1f4d7 a book;
        camera 1f4f7 a camera; clock 23f0 a clock; crown 1f451 a crown; tophat 1f3a9 a top hat;
        glasses 1f453 a pair of glasses; shirt 1f455 a shirt; house 1f3e0 a house; coffee 2615 a cup of coffee;
        bell 1f514 a bell; trophy 1f3c6 a trophy; heart 2764 a heart; teddybear 1f9f8 a teddy bear; robot 1f916 a robot;
        ghost 1f47b a ghost; pumpkin 1f383 a pumpkin""",
}
_PLURAL = {"grapes", "cherries"}

GROUPS: tuple[str, ...] = tuple(_TABLE)


def _classes() -> tuple[SceneClass, ...]:
    found = []
    for group, text in _TABLE.items():
        for entry in text.split(";"):
            name, codepoint, *phrase = entry.split()
            found.append(SceneClass(name, " ".join(phrase), group, int(codepoint, 16), name in _PLURAL))
    return tuple(found)


CLASSES: tuple[SceneClass, ...] = _classes()

COLOURS: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("white", (244, 244, 242)),
    ("grey", (150, 152, 156)),
    ("black", (38, 38, 42)),
    ("red", (204, 62, 58)),
    ("orange", (240, 148, 60)),
    ("yellow", (246, 218, 96)),
    ("green", (98, 172, 92)),
    ("teal", (60, 160, 158)),
    ("blue", (76, 128, 212)),
    ("purple", (138, 96, 188)),
    ("pink", (244, 164, 192)),
    ("brown", (138, 100, 72)),
)
"""The twelve background colours: name and sRGB."""

TEXTURES: tuple[str, ...] = ("plain", "gradient", "striped", "checkered", "noisy")

MAX_WORDS = 18
"""No caption is longer, so that a text tower of 20 positions also holds its start and end marks."""

_FUNCTION_WORDS = "a above an and are background below is left of on picture right the there to with"

WORDS: tuple[str, ...] = tuple(
    sorted(
        set(_FUNCTION_WORDS.split())
        | {word for one in CLASSES for word in one.phrase.split()}
        | {name for name, _ in COLOURS}
        | set(TEXTURES)
    )
)
"""Every word a caption can contain, sorted: the vocabulary of a word-level text tower."""
