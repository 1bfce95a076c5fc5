"""The words that circuit tasks are made of. Most are single tokens in most vocabularies; the rest fall out."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`a|b` separated by white space; an underscore is a space."""
    made = (item.replace("_", " ").split("|") for item in text.split())
    return tuple((a, b) for a, b in made)


MALE = _words("""
John James Robert Michael William David Richard Joseph Thomas Charles Daniel Matthew Mark Paul Steven Andrew Kevin
Brian George Edward Peter Henry Jack Adam Ryan Simon Frank Martin
""")
FEMALE = _words("""
Mary Elizabeth Susan Sarah Karen Lisa Emily Anna Alice Laura Julia Amy Emma Kate Rachel Maria Jane Rose Ruth Helen
Martha Grace Anne Claire Diana Sophie Lucy Linda
""")
NAMES = (*MALE, *FEMALE)
PLACES = _words("store park school garden beach station office library market church house restaurant hospital museum")
GIFTS = _words("drink book ring ball letter flower ticket cake gift watch map photo key card")
EVENTS = _words("""
war siege voyage strike famine festival contract reign drought trial marriage journey rebellion exhibition treaty
occupation project dispute tour study
""")
NOUNS = _pairs("""
key|keys cabinet|cabinets picture|pictures garden|gardens teacher|teachers road|roads tree|trees letter|letters
box|boxes window|windows doctor|doctors farmer|farmers child|children house|houses bird|birds table|tables
car|cars player|players bridge|bridges book|books door|doors student|students horse|horses flower|flowers
""")
ARGUMENTS = _words("""
size shape state path name index key value mode color count limit offset width height depth level label title user
group data file text line token node graph model layer batch score rate time date length start end step order type
""")
VERBS = _words("load save read write update create delete find build parse check convert render merge split filter")
WORDS = _words("""
apple river stone window paper music garden winter bread horse table candle forest silver engine mountain doctor
letter ocean pencil summer bridge coffee planet mirror shadow market guitar island rocket butter basket castle desert
tiger lemon cotton ladder helmet pocket hammer rabbit temple needle
""")
CAPITALS = _pairs("""
France|Paris Italy|Rome Germany|Berlin Spain|Madrid Russia|Moscow Japan|Tokyo China|Beijing Egypt|Cairo Greece|Athens
Poland|Warsaw Austria|Vienna Portugal|Lisbon Ireland|Dublin Cuba|Havana Iran|Tehran Iraq|Baghdad Peru|Lima
Chile|Santiago Kenya|Nairobi Norway|Oslo Sweden|Stockholm Denmark|Copenhagen Finland|Helsinki Hungary|Budapest
Turkey|Ankara Canada|Ottawa Thailand|Bangkok Vietnam|Hanoi Lebanon|Beirut Syria|Damascus Belgium|Brussels
Ukraine|Kiev Indonesia|Jakarta Afghanistan|Kabul Australia|Canberra England|London Scotland|Edinburgh
""")
COLOURS = _words("red blue green yellow black white brown orange purple pink grey")
THINGS = _words("pen cup hat book ball key box plate bag coin chair lamp ring bottle shirt knife")
ADJECTIVES = _pairs("""
hot|cold big|small fast|slow light|dark good|bad high|low rich|poor young|old happy|sad hard|soft strong|weak
full|empty open|closed early|late long|short wet|dry clean|dirty true|false right|wrong first|last deep|shallow
wide|narrow heavy|light loud|quiet alive|dead easy|difficult north|south up|down positive|negative
internal|external public|private
""")
