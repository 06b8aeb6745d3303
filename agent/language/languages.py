"""What can be told of a text in another language, offline: which language it seems to be, and that it says stop."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_WORDS = {  # frequent little words, and what is said to a robot; words that are English too are left out
    "German": "gib mir bitte den dem der das ein eine einen ich und nicht ist zum hol hole nimm reich möchte brauche"
    " etwas mit auf vom aus damit kannst du schraubendreher tasse zange löffel messer",
    "French": "moi le la les un une des donne donnez prends prenez je du avec pour dans sur est s'il vous plaît quelque"
    " chose besoin peux passe-moi donne-moi apporte marteau tasse couteau cuillère",
    "Spanish": "dame el los las una por favor quiero necesito algo para con del puedes pásame coge toma trae la un"
    " martillo taza cuchillo cuchara",
    "Italian": "dammi mi il lo gli la un una per piacere prendi voglio qualcosa con della puoi passami portami ho"
    " bisogno tazza martello coltello cucchiaio",
    "Portuguese": "dê os uma um preciso por pega pegue quero alguma coisa para com você pode passe martelo xícara faca"
    " colher",
    "Dutch": "geef mij het een alsjeblieft ik wil iets met voor van kun je pak hamer mes lepel",
    "Swedish": "och mig jag vill den det ett något med kan ta snälla hammaren koppen kniven",
    "Polish": "daj mi proszę potrzebuję coś do nie jest weź podaj młotek kubek nóż",
    "Turkish": "bana bir ver lütfen şey için istiyorum çekiç bardak bıçak",
    "Czech": "dej mi prosím něco potřebuji podej kladivo hrnek nůž",
    "Finnish": "anna minulle jotain tarvitsen ole hyvä ota vasara muki veitsi",
    "Hungarian": "adj nekem egy kérlek valamit szükségem kalapács bögre kés",
    "Indonesian": "tolong berikan saya ambilkan sesuatu untuk palu cangkir pisau",
}
_IN_ENGLISH_TOO = frozenset(
    "me o a i do no on die den war mit hole met van anna ole con ver bana ota est dans ta muki".split()
)


def _plain(text: str) -> str:
    """Without accents, as the tokens of a command are."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


_LITTLE = {name: frozenset(_plain(words).split()) - _IN_ENGLISH_TOO for name, words in _WORDS.items()}
FOREIGN = frozenset(word for words in _LITTLE.values() for word in words)

_SCRIPTS = {
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "CJK": "Chinese or Japanese",
    "HANGUL": "Korean",
    "CYRILLIC": "Russian or a neighbour of it",
    "GREEK": "Greek",
    "ARABIC": "Arabic or Persian",
    "HEBREW": "Hebrew",
    "DEVANAGARI": "Hindi or a neighbour of it",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "THAI": "Thai",
}

# A stop must not wait for whoever reads the language. "stop", "halt" and the like are in intent.py.
_STOPS = frozenset(
    "stopp anhalten stehenbleiben aufhören arrête arrêtez arrête-toi alto para detente deténte parar pare fermati ferma"
    " fermo basta hou-op ophouden stanna sluta zatrzymaj przestań dur durdur stůj zastav seis pysähdy állj megállj"
    " berhenti dừng stopt стоп стой остановись стій σταμάτα στοπ توقف قف עצור रुको थांबा หยุด 停 停止 停下 别动 止まれ"
    " 止めて ストップ 멈춰 정지 그만".split()
)


def says_stop(text: str) -> bool:
    """Is the whole text a stop in another language, said once or several times? text: lower case."""
    words = re.findall(r"[^\s.,!?;:¡¿。！？、]+", text)
    courtesies = {
        "bitte",
        "sofort",
        "por",
        "favor",
        "per",
        "tout",
        "de",
        "suite",
        "ahora",
        "subito",
        "robot",
        "roboter",
    }
    return bool(_STOPS & set(words)) and set(words) <= _STOPS | courtesies


def language_of(text: str, words: list[str]) -> str | None:
    """The language that a text which is not English seems to be in, None when it cannot be told. words: lower case."""
    scripts: Counter[str] = Counter(
        unicodedata.name(c, "?").split()[0].split("-")[0] for c in text if c.isalpha() and not c.isascii()
    )
    for script, name in _SCRIPTS.items():
        if scripts[script]:
            return name
    found = {name: len(little & set(words)) for name, little in _LITTLE.items()}
    best = max(found, key=lambda name: found[name])
    return best if found[best] and list(found.values()).count(found[best]) == 1 else None
