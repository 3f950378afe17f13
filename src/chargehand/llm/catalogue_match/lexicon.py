"""English, as far as operations needs it: data only. Each table is a few words a line, split by spaces.

Verbs of one action stand for each other, so one example per intent teaches all of them.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Action -> its verbs. A verb may name several actions; an intent agrees when it shares one of them.
ACTIONS: dict[str, str] = {
    "deploy": "deploy redeploy install reinstall rollout provision launch setup bootstrap ship push release",
    "remove": "remove delete uninstall teardown destroy drop purge wipe decommission undeploy "
    "erase dispose detach nuke scrap discard trash ditch eliminate kill",
    "restart": "restart reboot bounce recycle respawn powercycle cycle",
    "reload": "reload refresh rehash",
    "start": "start activate boot enable launch",
    "resume": "resume unpause continue",
    "stop": "stop halt kill shutdown terminate deactivate disable quit end abort cancel cease",
    "pause": "pause suspend hold",
    "check": "check verify inspect test monitor probe ping examine validate watch confirm diagnose review ensure see",
    "list": "list show display print view get fetch report see tell count enumerate",
    "add": "add append insert include register attach put",
    "update": "update upgrade patch bump",
    "change": "change set modify edit adjust configure switch reconfigure tune",
    "backup": "backup snapshot dump archive save export",
    "restore": "restore recover rollback revert reset undo",
    "copy": "copy sync synchronise synchronize transfer mirror upload download clone replicate rsync duplicate grab",
    "renew": "renew rotate reissue regenerate",
    "clean": "clean cleanup prune tidy vacuum free clear empty wash wipe",
    "run": "run execute perform trigger do make take kick give",
    "scale": "scale resize grow shrink",
    "raise": "raise increase lift extend bump boost",
    "lower": "lower decrease reduce dim shrink",
    "open": "open",
    "close": "close shut",
    "lock": "lock bolt latch secure",
    "unlock": "unlock",
    "grant": "grant assign",
    "revoke": "revoke withdraw",
    "create": "create setup generate make build open",
    "send": "send notify email message alert post publish forward",
    "move": "move migrate relocate rename",
    "block": "block ban deny blacklist close prohibit",
    "allow": "allow permit whitelist unblock open",
    "mount": "mount",
    "unmount": "unmount umount",
    "read": "read tail grep search find look",
}

# Verb of two words, also with words between them ("set the page up") -> its actions.
PHRASAL: dict[tuple[str, str], str] = {
    ("set", "up"): "deploy create",
    ("spin", "up"): "deploy",
    ("stand", "up"): "deploy",
    ("bring", "up"): "deploy start",
    ("put", "up"): "deploy",
    ("tear", "down"): "remove",
    ("take", "down"): "remove",
    ("take", "away"): "remove",
    ("get", "rid"): "remove",
    ("throw", "away"): "remove",
    ("throw", "out"): "remove",
    ("shut", "down"): "stop",
    ("bring", "down"): "stop",
    ("turn", "off"): "stop",
    ("switch", "off"): "stop",
    ("power", "off"): "stop",
    ("turn", "on"): "start",
    ("switch", "on"): "start",
    ("power", "on"): "start",
    ("fire", "up"): "start",
    ("boot", "up"): "start",
    ("power", "cycle"): "restart",
    ("look", "at"): "check",
    ("look", "into"): "check",
    ("look", "over"): "check",
    ("make", "sure"): "check",
    ("find", "out"): "check",
    ("take", "look"): "check",
    ("have", "look"): "check",
    ("back", "up"): "backup",
    ("roll", "back"): "restore",
    ("clean", "up"): "clean",
    ("clean", "out"): "clean",
    ("clear", "out"): "clean",
    ("free", "up"): "clean",
    ("kick", "off"): "run",
    ("shut", "off"): "stop",
    ("cut", "off"): "stop",
    ("put", "on"): "start",
    ("pull", "up"): "open",
    ("pull", "down"): "close",
    ("put", "back"): "restore",
    ("bring", "back"): "restore",
    ("go", "back"): "restore",
    ("roll", "out"): "deploy",
}

# A particle that stands without its verb -> what it says to do.
PARTICLES: dict[str, frozenset[str]] = {
    "on": _set("start"),
    "off": _set("stop"),
    "up": _set("raise open start"),
    "down": _set("lower close stop"),
}

# A verb that says only that something is to happen; what is in its object ("run the backup", "do a restart").
LIGHT = _set("run start create")

# Words for one thing -> the one that stands for them.
NOUNS: dict[str, str] = {
    "host": "host hosts machine machines server servers box node nodes vm",
    "config": "config configs configuration configurations settings conf cfg",
    "database": "database databases db dbs",
    "certificate": "certificate certificates cert certs tls ssl https",
    "application": "application applications app apps",
    "directory": "directory directories folder folders dir",
    "website": "website websites site sites webpage",
    "disk": "disk disks drive drives storage filesystem filesystems",
    "memory": "memory ram",
    "log": "log logs logfile logfiles journal",
    "space": "space room capacity",
    "postgres": "postgres postgresql pg pgsql",
    "kubernetes": "kubernetes k8s",
    "up": "up alive reachable running online responding healthy answering respond answer",
    "user": "user users account accounts acct accts login logins",
    "package": "package packages software",
    "service": "service services daemon daemons unit",
    "health": "health condition state",
    "password": "password passwords passwd pwd pw",
    "namespace": "namespace namespaces ns",
    "repository": "repository repositories repo repos",
    "environment": "environment environments env envs",
    "production": "production prod",
    "staging": "staging stage stg",
    "revision": "revision revisions rev revs",
    "temperature": "temperature temperatures temp temps",
    "camera": "camera cameras cam cams",
    "light": "light lights lamp lamps",
    "message": "message messages msg msgs",
    "notification": "notification notifications notif notifs",
    "document": "document documents doc docs",
    "administrator": "administrator administrators admin admins",
    "permission": "permission permissions perms right rights privilege privileges",
    "statistic": "statistic statistics stats",
    "maximum": "maximum max",
    "minimum": "minimum min",
    "reference": "reference ref refs",
}

# So general that it says nothing about which intent is meant; alone it is no object.
GENERIC = _set(
    """host service system thing stuff instance something up application network infrastructure environment homelab
    setup job task issue problem place version whole full"""
)

# Carry no content for choosing an intent: grammar, politeness, hurry, ownership.
FILLERS = _set(
    """a an the this these those my our your his her their some such same s t i we you he she they me us him them
    it its myself ourselves there that here one ones is are am be been being was were has have had having do
    does did can could will would shall may of on in at to from for with by as into onto over under via through
    within inside per about against up out off and or but also then plus next finally afterwards after too well as
    again once so now please kindly thanks thank hi hello hey ok okay yes just quickly quick asap urgently
    immediately right away today soon go ahead want like need love wish let lets us help able ll d ve re m be
    sure got gotten existing current present new newest latest recent own actual brand fresh shiny nice little
    good great proper properly correctly available us still currently what which who how much many any kind sort
    bit moment minute really actually basically simply already get gets getting needs wants pls plz thx ty yo
    hmm folks guys u ur r n rn lol idk thx tmrw fyi btw imo"""
)

# What announces a thing that is not there yet: "new user for lena" asks for one.
NEW = _set("new another fresh additional")

DETERMINERS = _set("""a an the this these those my our your his her their its some another any every each""")
# Verbs that people use for one another.
LOOKING = _set("check list read")
# Actions that are near each other -> how far a verb of one agrees with an intent of the other.
KINDRED = (
    (LOOKING, 0.95),
    (_set("start resume"), 0.5),
    (_set("stop pause"), 0.5),
    (_set("start run"), 0.9),
    (_set("remove clean"), 0.8),
    (_set("create add"), 0.8),
    (_set("backup copy"), 0.8),
    (_set("raise scale"), 0.9),
    (_set("lower scale"), 0.9),
    (_set("open raise"), 0.9),
    (_set("close lower"), 0.9),
    (_set("update deploy"), 0.8),
)

# A clause that starts with one of these and has no other verb asks to look at something.
QUESTIONS = _set("is are does did was were has how what which who where when whats hows whos what's who's how's")

# How a sentence starts that tells something, unless it is one that wishes for something.
STATING = _set("we i they he she it there our my everyone everybody somebody people users nobody")
WISHING = _set("want need would like wish please should must could can d i'd we'd")

# Forms of verbs that no order has. Of those that carry a meaning, the ones by which people say what is wrong or new.
FINITE = _set(
    """is are was were has have had does did keeps kept seems seemed looks looked left lost went goes got came comes
    became becomes broke breaks fails failed crashed crashes hangs hung died dies expires expired expects expect
    complains complain complained says said thinks shows showed works worked runs ran ends ended starts started
    arrives arrived happens happened feels felt takes took makes made changed joined joins"""
)

PRONOUNS = _set("it its them their there that")
POSSESSIVES = _set("its their")
# Stand for no thing by name, so they never fill a free-text parameter.
NOT_NAMES = _set(
    """everything anything something nothing all both each every any none one other others rest usual again"""
)

# What English of any length has; a text with none of them and mostly unknown words is another language.
ENGLISH = _set(
    """the a an and of to in is are it its for on with that this our my we i you please can could would all any
    from be not do don have has at by as if then also"""
)

# Frequent words of other languages that are not English words.
FOREIGN = _set(
    """und der das den dem ist nicht bitte mit auf für ein eine einen unser unsere füge hinzu zu wir ich dann le la
    les des du une et est avec pour sur dans nous notre nos veuillez svp puis ajoutez déployez el los las una y
    con para por favor nuestro nuestra nuestros luego añade agrega despliega en il lo gli della nostro per e poi
    het een naar onze voeg alsjeblieft os um uma nosso nossos depois i oraz proszę nasz det och att vår snälla
    ve lütfen neu alle bitte starte starten neustarten neustart stoppe stoppen beende beenden installiere installieren
    deinstalliere deinstallieren aktualisiere aktualisieren erneuere erneuern lösche löschen entferne entfernen prüfe
    prüfen fahre herunter herunterfahren hochfahren erstelle erstellen sichere sichern zeige anzeigen öffne öffnen
    schließe schließen führe durchführen wiederherstellen sperre entsperre redémarre redémarrer démarre démarrer arrête
    arrêter installe installer supprime supprimer vérifie vérifier reinicia reiniciar inicia iniciar instala instalar
    detén elimina eliminar borra borrar comprueba actualiza actualizar riavvia riavviare installa aggiorna herstart
    starta"""
) - {"i", "e", "installer"}

# Prepositions that mark the machine something happens on.
PLACES = _set("on at to from in onto of")


def actions_by_verb() -> dict[str, frozenset[str]]:
    """Return each verb with the actions it names."""
    verbs = {verb for words in ACTIONS.values() for verb in words.split()}
    return {verb: frozenset(action for action, words in ACTIONS.items() if verb in words.split()) for verb in verbs}


def nouns_by_word() -> dict[str, str]:
    """Return each word of `NOUNS` with the one that stands for it."""
    return {word: noun for noun, words in NOUNS.items() for word in words.split()}
