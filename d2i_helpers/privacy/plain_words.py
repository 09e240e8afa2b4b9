"""Words that are both names of people and plain English words.

Run records use such words themselves ("page", "may", "key"), so a child of that name is looked for
by its full name only. The list holds words that notebooks, messages of libraries and reports are
likely to use. A word that is missing costs no more than a false alarm.
"""

from __future__ import annotations

import re

_WORDS = """
    back held
    able age all amber an april art august bank bar bars base bell best bill bin bird black block
    any blue board bond book booth box brand bridge british brook brown bug build bundle burn bush
    can card care carter case cash cell chain chance change charge check child church city class
    clay clean clear clerk client close code cold cole column common con conference cook core
    corner cost count course court craft cross dale data date dawn day days dean delta den dent
    doc dot down draw drew due duke duty early east eden edge else empty end english episode eve
    even ever every fair faith fall false farmer field fields file final fine first fish flag
    flat fleet flood flower fold ford forest form fort foster fox frank free french friday frost
    full gate gates gene gift given glass gold good grace grant gray green grey grid grove guy
    hall hand hands hard head heart here high hill hills hold home hope host hour house how hunt
    hunter in index int iris irish ivy job join joy july june just justice kernel key keys kind
    king knot lake lamb land lane large last late law leader len level light limit line lines
    link list little live local lock log long lord loss love low main major man many map march
    mark marks mask mason master match max may mean merit middle mile miles mill min minor mint
    miss mix mode model month moon more most name near net never new next night noble none norm
    normal north not note null oak odd of off olive on one open or order other out over own pack
    page pain pair park part pass path pattern peak pearl pen penny person phase pie pin pipe
    plain plan plant plot point pool poor port post pound power press price pride prime print
    prior purge queen quick rain range rank rate raw ray read reader ready reason record red
    reed rest rich right ring rise river road robin rock role root rose round row rows rule
    rules run rush safe sage sale sales save scope score sea seal second see seed self senior
    sent series service set sex shape share sharp shell shield shift short show side sign simple
    single size skip sky slow small smart snow so sort source south space spare spark speed
    spring staff stage stamp standard star start state status stay steel stem step still stock
    stone stop store storm story strange stream street string strong sum summary summer sun
    sunday sure swan sweet swift tab table tag task temp test text the thing time title to token
    tool top total tower track trade train tree trend true trust try turn two type union unit
    unknown up use user vale valid value view violet void wait walk walker wall walls ward warn
    water waters way web week weeks well wells welsh west white who whole wide wild will wind
    window wing winter wise with wolf wood woods word words work worker workers write year years
    yes yet young zone
"""
PLAIN_WORDS = frozenset(re.findall(r"\w+", _WORDS.upper()))
