"""Units, currencies and words of size that may stand beside a number, in several languages."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from .text import trusted_regex

# Each unit with its spellings, in any case. A spelling of several units may mean each of them.
# Missing on purpose, because they are words too: "in" for inches, "an" for a year in French.
_UNITS = {
    "%": "% percent pct prozent pourcent パーセント|per cent|pour cent|por ciento",
    "‰": "‰",
    "$": "$ us$ usd dollar dollars dólar dólares ドル bucks",
    "€": "€ eur euro euros ユーロ",
    "£": "£ gbp pound pounds quid",
    "yen": "¥ jpy yen 円",
    "yuan": "¥ cny rmb yuan 元",
    "₹": "₹ inr rs rupee rupees",
    "₩": "₩ krw won 원",
    "₽": "₽ rub ruble rubles",
    "chf": "chf fr. franken",
    "cent": "¢ ct cent cents centime centimes centavo centavos céntimos",
    "mm": "mm millimeter millimeters millimetre millimetres ミリ",
    "cm": "cm centimeter centimeters centimetre centimetres zentimeter centímetro centímetros "
    "centimètre centimètres センチ センチメートル",
    "m": "m meter meters metre metres metro metros mètre mètres メートル",
    "km": "km kilometer kilometers kilometre kilometres kilómetro kilómetros kilomètre kilomètres "
    "キロメートル キロ",
    "inch": "inch inches zoll",
    "ft": "ft foot feet",
    "yd": "yd yard yards",
    "mi": "mi mile miles meile meilen",
    "mg": "mg milligram milligrams milligramm",
    "g": "g gram grams gramm gramme grammes gramo gramos グラム",
    "kg": "kg kilo kilos kilogram kilograms kilogramm kilogramme kilogrammes kilogramo kilogramos "
    "キログラム キロ",
    "t": "t ton tons tonne tonnes tonnen トン",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "ml": "ml milliliter milliliters millilitre millilitres",
    "l": "l liter liters litre litres litro litros リットル",
    "gal": "gal gallon gallons",
    "ms": "ms millisecond milliseconds",
    "s": "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos 秒",
    "min": "min mins minute minutes minuten minuto minutos 分",
    "h": "h hr hrs hour hours stunde stunden heure heures hora horas 時間",
    "day": "day days tag tage tagen jour jours día días 日",
    "week": "week weeks woche wochen semaine semaines semana semanas 週間",
    "month": "month months monat monate monaten mois mes meses ヶ月 か月 カ月",
    "year": "year years jahr jahre jahren ans année années año años 年",
    "km/h": "km/h kmh kph|kilometers per hour|kilometres per hour",
    "mph": "mph|miles per hour",
    "m/s": "m/s|meters per second|metres per second",
    "°C": "°c celsius ° degree degrees grad|degrees celsius|° c",
    "°F": "°f fahrenheit ° degree degrees grad|degrees fahrenheit|° f",
    "°": "° degree degrees grad",
    "kb": "kb kilobyte kilobytes",
    "mb": "mb megabyte megabytes",
    "gb": "gb gigabyte gigabytes",
    "tb": "tb terabyte terabytes",
    "kwh": "kwh",
}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "quadrat": 2, "kubik": 3, "平方": 2, "立方": 3}
_SIZES = {
    12: "dozen dozens dutzend douzaine douzaines docena docenas ダース",
    10**2: "hundred hundert",
    10**3: "thousand tausend mil mille 千",
    10**4: "万 萬",
    10**5: "lakh lakhs",
    10**7: "crore crores",
    10**6: "million millions millionen millón millones mio",
    10**8: "億 亿",
    10**9: "billion billions bn milliarde milliarden milliard milliards",
    10**12: "trillion trillions 兆",
}
_LETTER_SIZES = {"k": 10**3, "K": 10**3, "M": 10**6}  # only where they touch the number


def units_named(spelling: str) -> frozenset[str]:
    """Return the units that a spelling may mean; none where the table does not have it."""
    return _table().get(" ".join(spelling.casefold().split()), frozenset())


def read_size(text: str, start: int) -> tuple[int, int]:
    """Return what the number before `start` is multiplied by (thousand, million, 万), and where that word ends."""
    letter = trusted_regex(r"[kKM](?![^\W_])").match(text, start)
    if letter:
        return _LETTER_SIZES[letter.group()], letter.end()
    found = trusted_regex(_size_pattern()).match(text, start)
    return (_sizes()[found.group(1).casefold()], found.end()) if found else (1, start)


def read_unit(text: str, start: int) -> tuple[frozenset[str], int]:
    """Return the units that may stand at `start`, after the number, and where they end."""
    found = trusted_regex(_unit_pattern()).match(text, start)
    if not found:
        return frozenset(), start
    power = _POWERS.get((found["power"] or "").casefold(), 0) or int(found["raised"] or 1)
    units = units_named(found["unit"])
    return frozenset(f"{unit}^{power}" if power > 1 else unit for unit in units), found.end()


@cache
def _table() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for unit, spellings in _UNITS.items():
        words, *phrases = spellings.split("|")
        for spelling in (*words.split(), *phrases):
            table.setdefault(spelling, set()).add(unit)
    return {spelling: frozenset(units) for spelling, units in table.items()}


@cache
def _sizes() -> dict[str, int]:
    return {word: size for size, words in _SIZES.items() for word in words.split()}


@cache
def _size_pattern() -> str:
    return rf"(?i) ?({_either(_sizes())})"


@cache
def _unit_pattern() -> str:
    return (
        rf"(?i)[ -]?(?:(?P<power>{'|'.join(_POWERS)})\.?[ -]?)?(?P<unit>{_either(_table())})"
        r"(?: ?\^(?P<raised>[23])(?!\d))?"
    )


def _either(words: Iterable[str]) -> str:
    """Return a pattern for any of the words, the longest that fits; a word of letters must end there."""
    ordered = sorted(words, key=len, reverse=True)
    return "|".join(_whole(word) for word in ordered)


def _whole(word: str) -> str:
    escaped = "".join(f"\\{c}" if c in "$./^" else c for c in word)
    # Scripts without spaces go on after the unit: 72円です.
    return rf"{escaped}(?![a-zà-ÿ0-9_])" if word[-1].isalpha() and word[-1] < "\u0250" else escaped
