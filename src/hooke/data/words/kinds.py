"""What words do: function words, verbs by what happens, words of programs and of documentation. All in small
letters."""

from __future__ import annotations

KINDS = {
    "personal pronouns": "i me you he him she her it we us they them",
    "possessives": "my mine your yours his her hers its our ours their theirs whose",
    "reflexive pronouns": "myself yourself himself herself itself ourselves yourselves themselves oneself",
    "articles": "a an the",
    "this and that": "this that these those such same",
    "prepositions": (
        "of in to for with on at from by about as into like through after over between out against during without "
        "before under around among across behind beyond near above below beside within upon toward towards inside "
        "outside onto per via despite until till since along amid beneath underneath throughout"
    ),
    "conjunctions": "and or but nor so yet because although though unless while whereas if whether than",
    "words of contrast": (
        "but however although though yet nevertheless nonetheless despite instead whereas rather otherwise conversely "
        "unlike unfortunately"
    ),
    "words of cause": (
        "because therefore thus hence since so consequently due cause causes caused reason result thereby"
    ),
    "words of addition": "also too additionally furthermore moreover besides plus another further likewise similarly",
    "words of time order": (
        "then next first finally later earlier before after afterwards previously subsequently meanwhile eventually "
        "soon once already recently formerly"
    ),
    "words of frequency": (
        "always never often sometimes usually rarely seldom frequently occasionally normally generally"
    ),
    "words of certainty": "certainly definitely surely clearly obviously indeed undoubtedly absolutely course must",
    "words of doubt": (
        "maybe perhaps possibly probably might could may seems seem apparently likely unlikely presumably"
    ),
    "words of degree": (
        "very too quite rather extremely really highly fairly pretty so more most less least almost nearly hardly "
        "barely slightly completely totally entirely fully partly"
    ),
    "negations": "not no never none nobody nothing neither nor cannot without nowhere",
    "question words": "who whom whose what which when where why how",
    "forms of be": "be is am are was were been being",
    "forms of have and do": "have has had having do does did doing done",
    "modal verbs": "can could may might must shall should will would ought",
    "quantities": (
        "all some any many much few several most more less each every both either half enough plenty lot lots various "
        "numerous multiple couple dozen"
    ),
    "numbers in words": (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million "
        "billion trillion"
    ),
    "ordinals": "first second third fourth fifth sixth seventh eighth ninth tenth last next previous final initial",
    "comparatives": (
        "better worse bigger larger smaller higher lower greater longer shorter faster slower older younger newer "
        "stronger weaker easier harder deeper wider more less fewer earlier later"
    ),
    "superlatives": (
        "best worst biggest largest smallest highest lowest greatest longest shortest fastest oldest youngest newest "
        "strongest easiest hardest most least earliest latest"
    ),
    "people in general": (
        "people person man woman men women boy girl child children everyone someone anyone somebody human"
    ),
    "verbs of saying": (
        "say says said tell tells told speak speaks spoke talk talked ask asks asked answer answered reply replied "
        "mention mentioned state stated claim claimed explain explained announce announced argue argued call called "
        "describe describes described report reported"
    ),
    "verbs of thinking": (
        "think thinks thought know knows knew known believe believes believed understand understood remember forget "
        "forgot guess suppose assume assumes consider considered wonder decide decided imagine expect expected"
    ),
    "verbs of seeing and hearing": (
        "see sees saw seen look looks looked watch watched hear hears heard listen notice noticed observe observed "
        "feel feels felt smell taste touch"
    ),
    "verbs of wanting": (
        "want wants wanted need needs needed wish hope hopes hoped desire prefer try tries tried attempt seek intend"
    ),
    "verbs of moving": (
        "go goes went gone come comes came walk walked run runs ran move moves moved travel travelled fly flew drive "
        "drove ride swim climb jump enter leave left arrive arrived return returned follow followed send sent bring "
        "brought carry carried"
    ),
    "verbs of giving and taking": (
        "give gives gave given take takes took taken get gets got receive received offer offered provide provides "
        "provided share accept buy bought sell sold pay paid lend borrow steal"
    ),
    "verbs of making": (
        "make makes made create creates created build builds built produce produced construct constructed form formed "
        "generate generated develop developed design designed write writes wrote written draw paint invent compose"
    ),
    "verbs of changing": (
        "change changes changed become becomes became turn turned grow grows grew increase increases increased "
        "decrease decreased reduce reduced improve improved convert converts converted replace replaced modify "
        "modified update updated rise rose fall fell shrink expand"
    ),
    "verbs of breaking": (
        "break breaks broke broken destroy destroyed damage damaged kill killed cut crash crashed fail failed fails "
        "burn burned tear collapse explode ruin hurt harm attack"
    ),
    "verbs of beginning and ending": (
        "begin begins began begun start starts started stop stops stopped end ends ended finish finished continue "
        "continues continued open opened close closed complete completed launch resume quit"
    ),
    "verbs of using": "use uses used using utilize apply applies applied employ operate work works worked handle",
    "verbs of keeping and holding": (
        "keep keeps kept hold holds held contain contains contained include includes included store stored save saved "
        "remain remains remained stay preserve maintain"
    ),
    "verbs of showing": (
        "show shows showed shown display displays present presented demonstrate indicate indicates reveal reveals "
        "suggest suggests prove proves illustrate represent represents mean means"
    ),
    "verbs of finding": "find finds found discover discovered search seek locate detect detected identify identified",
    "verbs of helping": (
        "help helps helped support supports supported assist allow allows allowed enable enables let lets"
    ),
    "verbs of stopping others": (
        "prevent prevents prevented avoid avoids avoided block blocked forbid forbidden prohibit refuse refused "
        "reject rejected deny denied ignore ignored limit limited restrict"
    ),
    "verbs of choosing": (
        "choose chooses chose chosen select selects selected pick picked prefer decide vote elect elected"
    ),
    "words of agreement": "yes agree agreed okay ok sure right exactly indeed true correct",
    "greetings and thanks": "hello hi hey dear welcome goodbye bye thanks thank please sorry congratulations regards",
    "program keywords": (
        "if else elif for while return def class import from try except finally raise with lambda yield pass break "
        "continue assert global del async await switch case const let var function public private static void new"
    ),
    "data types": (
        "int integer str string float bool boolean list dict dictionary tuple set array bytes object char double long "
        "type types pointer struct vector matrix enum iterator sequence"
    ),
    "words of programs": (
        "function functions method methods class classes module modules package packages variable variables argument "
        "arguments parameter parameters attribute attributes instance object objects callback decorator constructor "
        "namespace subclass interface"
    ),
    "words of documentation": (
        "returns return raises raise default defaults optional example examples see note notes parameters deprecated "
        "usage syntax description specified given specify specifies"
    ),
    "truth values": "true false none null yes no nan undefined",
    "errors": (
        "error errors exception exceptions failure failed fails invalid warning warnings bug bugs crash fault illegal "
        "missing wrong bad unexpected incorrect"
    ),
    "words of licences": (
        "copyright license licence licensed warranty rights reserved permission terms conditions liability agreement "
        "distributed redistribution trademark patent"
    ),
}
