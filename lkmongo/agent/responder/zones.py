"""Time zones as people say them, to names of the IANA database."""

from __future__ import annotations

import re
from functools import cache

_ABBREVIATIONS = {
    "pst": "America/Los_Angeles",
    "pdt": "America/Los_Angeles",
    "pacific": "America/Los_Angeles",
    "west coast": "America/Los_Angeles",
    "mst": "America/Denver",
    "mdt": "America/Denver",
    "mountain": "America/Denver",
    "cst": "America/Chicago",
    "cdt": "America/Chicago",
    "central": "America/Chicago",
    "est": "America/New_York",
    "edt": "America/New_York",
    "eastern": "America/New_York",
    "east coast": "America/New_York",
    "akst": "America/Anchorage",
    "alaska": "America/Anchorage",
    "hst": "Pacific/Honolulu",
    "hawaii": "Pacific/Honolulu",
    "atlantic": "America/Halifax",
    "utc": "UTC",
    "gmt": "GMT",
    "greenwich": "GMT",
    "greenwich mean": "GMT",
    "bst": "Europe/London",
    "british": "Europe/London",
    "cet": "CET",
    "cest": "CET",
    "central european": "CET",
    "eet": "EET",
    "eest": "EET",
    "eastern european": "EET",
    "wet": "WET",
    "western european": "WET",
    "msk": "Europe/Moscow",
    "ist": "Asia/Kolkata",
    "indian": "Asia/Kolkata",
    "india": "Asia/Kolkata",
    "jst": "Asia/Tokyo",
    "japan": "Asia/Tokyo",
    "kst": "Asia/Seoul",
    "sgt": "Asia/Singapore",
    "hkt": "Asia/Hong_Kong",
    "aest": "Australia/Sydney",
    "aedt": "Australia/Sydney",
    "awst": "Australia/Perth",
    "nzst": "Pacific/Auckland",
}
_PLACES = {
    "America/Los_Angeles": "san francisco, seattle, san diego, portland, las vegas, california, la, sacramento, oakland",
    "America/Denver": "salt lake city, colorado, utah, albuquerque",
    "America/Chicago": "dallas, houston, austin, minneapolis, texas, new orleans, memphis, nashville, st louis, milwaukee",
    "America/New_York": "boston, miami, washington, atlanta, philadelphia, orlando, nyc, new york city, florida, "
    "pittsburgh, charlotte, baltimore, cleveland",
    "America/Toronto": "ottawa, quebec",
    "America/Edmonton": "calgary",
    "America/Sao_Paulo": "rio, rio de janeiro, brasilia, brazil, são paulo",
    "Europe/Berlin": "germany, german, munich, münchen, hamburg, frankfurt, cologne, köln, stuttgart, dusseldorf, leipzig",
    "Europe/Paris": "france, french, lyon, marseille, toulouse, nice",
    "Europe/Madrid": "spain, spanish, barcelona, valencia, seville",
    "Europe/Rome": "italy, italian, milan, naples, turin, florence, venice",
    "Europe/London": "uk, england, britain, scotland, manchester, birmingham, edinburgh, glasgow, liverpool, wales",
    "Europe/Dublin": "ireland, irish",
    "Europe/Lisbon": "porto",
    "Europe/Amsterdam": "netherlands, dutch, rotterdam, holland, the hague",
    "Europe/Brussels": "belgium, antwerp",
    "Europe/Zurich": "switzerland, swiss, geneva, basel, bern, zürich",
    "Europe/Vienna": "austria",
    "Europe/Warsaw": "krakow",
    "Europe/Stockholm": "sweden, gothenburg",
    "Europe/Oslo": "norway, bergen",
    "Europe/Copenhagen": "denmark",
    "Europe/Helsinki": "finland",
    "Europe/Athens": "greece",
    "Europe/Kyiv": "kiev, ukraine",
    "Europe/Moscow": "russia",
    "Asia/Kolkata": "mumbai, delhi, new delhi, bangalore, bengaluru, chennai, hyderabad, pune",
    "Asia/Shanghai": "china, chinese, beijing, shenzhen, guangzhou",
    "Asia/Tokyo": "osaka, kyoto",
    "Asia/Seoul": "korea, south korea, korean",
    "Asia/Dubai": "abu dhabi, uae",
    "Asia/Ho_Chi_Minh": "hanoi, vietnam",
    "Asia/Bangkok": "thailand",
    "Asia/Manila": "philippines",
    "Australia/Sydney": "canberra",
    "Pacific/Auckland": "new zealand, wellington",
    "Africa/Johannesburg": "cape town, south africa, durban",
    "Africa/Lagos": "nigeria, abuja",
    "Africa/Nairobi": "kenya",
    "Africa/Cairo": "egypt",
}
_OFFSET = re.compile(r"(?:utc|gmt)\s*(?P<sign>[+-]|plus|minus)\s*0?(?P<hours>\d{1,2})(?::?00)?$", re.IGNORECASE)


@cache
def _known() -> dict[str, str]:
    from zoneinfo import available_timezones

    names = sorted(available_timezones())
    known = {}
    for name in names:
        area, slash, city = name.rpartition("/")
        if slash and area.partition("/")[0] not in {"Etc", "SystemV", "posix", "right"}:
            known[city.casefold().replace("_", " ")] = name
    known |= {name.casefold().replace("_", " "): name for name in names}
    known |= {place.strip(): zone for zone, places in _PLACES.items() for place in places.split(",")}
    return known | _ABBREVIATIONS


def zone(text: str) -> str | None:
    """Return the IANA name of what is said, such as "berlin time", "CET", "GMT+2"; None when it is none we know."""
    words = " ".join(text.casefold().replace("_", " ").split())
    words = re.sub(r"\b(timezone|time|zone|standard|daylight|savings?)\b", " ", words)
    words = re.sub(r"^(?:the|us|u\.s\.) |[.,!?]+$", "", " ".join(words.split())).strip()
    if offset := _OFFSET.fullmatch(words):
        hours = int(offset["hours"])
        # Zones of the Etc area count westwards: two hours ahead of Greenwich is Etc/GMT-2.
        east = offset["sign"] in {"+", "plus"}
        if hours == 0:
            return "UTC"
        return f"Etc/GMT{'-' if east else '+'}{hours}" if hours <= (14 if east else 12) else None
    return _known().get(words)
