"""Words that hold a sentence together and say little of their own: an answer seldom hangs on which one it is."""

from __future__ import annotations

_ENGLISH = """
a an the this that these those of in on at by for from to into onto upon with without within about above across after
against along among around as before behind below beneath beside between beyond during except inside near off out over
past since through toward towards under until up down via per and or but nor so yet if then else than because while
although though unless whether i me my mine we us our ours you your yours he him his she her hers it its they them
their theirs who whom whose which what where when why how is are was were be been being am do does did done doing have
has had having will would shall should can could may might must ought not no s t d ll re ve m there here just also
only very too both either neither each every any some such own same other another more most less least much many few
again ever even still already now q answer question please isn aren wasn weren don doesn didn hasn
haven hadn won wouldn couldn shouldn
"""
_GERMAN = """
der die das den dem des ein eine einen einem einer eines und oder aber denn weil dass ob wenn als wie von vom zu zum
zur in im an am auf aus bei mit nach seit um für durch gegen ohne über unter vor hinter zwischen ist sind war waren
sein hat haben hatte wird werden wurde kann können muss nicht kein keine er sie es wir ihr ich du mir mich dir dich
uns euch ihm ihn ihnen sich mein dein sein unser euer was wer wo wann warum auch nur noch schon sehr so da
"""
_FRENCH = """
le la les l un une des du de d et ou mais donc car ni que qu qui quoi dont où quand comment pourquoi si à au aux en
dans sur sous avec sans pour par chez entre vers est sont était étaient être a ont avait avoir ne n pas plus il elle
ils elles on je j tu nous vous me te se lui leur mon ma mes ton ta tes son sa ses notre votre ce c cet cette ces y
aussi très
"""
_SPANISH = """
el la los las un una unos unas de del y o u pero porque que quien cual donde cuando como si a al en con sin por para
sobre entre hasta desde es son era eran ser está están estar ha han había haber no ni se le les lo me te nos su sus mi
mis tu tus yo tú él ella ellos ellas nosotros usted muy también más ya
"""
_ITALIAN = """
il lo la i gli le un uno una di del dello della dei degli delle e o ma perché che chi cui dove quando come se a al
alla ai in nel nella con senza per su tra fra da dal dalla è sono era erano essere ha hanno aveva avere non né si lo
ne ci vi mi ti io tu lui lei noi voi loro mio tuo suo molto anche più già
"""
_OTHERS = """
het een de en of maar omdat dat die van voor met zonder op aan bij naar uit over onder is zijn was waren niet geen ik
jij hij zij wij o os as um uma do da dos das e ou mas porque que com sem por para em no na nos nas é são era não
"""
FUNCTION_WORDS = frozenset(" ".join((_ENGLISH, _GERMAN, _FRENCH, _SPANISH, _ITALIAN, _OTHERS)).split())
ROLES = frozenset({"system", "user", "assistant", "model", "tool"})  # of a chat template
