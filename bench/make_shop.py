"""Make the bundled shop from Online Retail: `python bench/make_shop.py [SOURCE] [--out FOLDER]`.

Reads the two years of invoice lines (SOURCE, default `../shared/data/online_retail`) and writes
`items.parquet` and `lines.parquet` to `src/onhand/offline/shop/data`. The same source gives the
same bytes. What is kept, what is dropped and what is derived stands in the README beside them.
"""

import argparse
import re
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "online_retail"
TARGET = ROOT / "src" / "onhand" / "offline" / "shop" / "data"

PRODUCT_CODE = r"^(\d{5}[A-Z]{0,2}|DCGS\d{4}[A-Z]?|DCGSS(BOY|GIRL))$"
"""Everything else is postage, fees, samples, vouchers, adjustments or a test."""

OVERLAP_STARTS = pl.datetime(2010, 12, 1)
"""Both files hold 2010-12-01 to 2010-12-09; those days are taken from the second."""

PRICE_DAYS = 60
"""A catalogue price is the median of the item's lines in its last 60 days on sale."""

COUNTRIES = {
    "Australia": "AU", "Austria": "AT", "Bahrain": "BH", "Belgium": "BE", "Bermuda": "BM",
    "Brazil": "BR", "Canada": "CA", "Channel Islands": "JE", "Cyprus": "CY",
    "Czech Republic": "CZ", "Denmark": "DK", "EIRE": "IE", "Finland": "FI", "France": "FR",
    "Germany": "DE", "Greece": "GR", "Hong Kong": "HK", "Iceland": "IS", "Israel": "IL",
    "Italy": "IT", "Japan": "JP", "Korea": "KR", "Lebanon": "LB", "Lithuania": "LT",
    "Malta": "MT", "Netherlands": "NL", "Nigeria": "NG", "Norway": "NO", "Poland": "PL",
    "Portugal": "PT", "RSA": "ZA", "Saudi Arabia": "SA", "Singapore": "SG", "Spain": "ES",
    "Sweden": "SE", "Switzerland": "CH", "Thailand": "TH", "USA": "US",
    "United Arab Emirates": "AE", "United Kingdom": "GB",
}  # fmt: skip
"""Country names of the source to ISO 3166; those that name no country become null."""

SMALL_WORDS = (
    "a",
    "an",
    "and",
    "at",
    "by",
    "de",
    "for",
    "from",
    "in",
    "of",
    "on",
    "or",
    "the",
    "to",
    "with",
)
CAPITALS = ("cd", "diy", "dvd", "led", "tv", "uk", "usa", "usb", "xl", "3d")

CATEGORIES: dict[str, str] = {
    "bags/backpacks": ("backpack rucksack"),
    "bags/lunch": ("cooler lunchbox"),
    "bags/purses": ("clutch coinpurse purse wallet"),
    "bags/shopping": ("bag bags handbag sack satchel shopper tote"),
    "bags/travel": ("luggage passport suitcase washbag"),
    "children/dolls": (
        "car dinosaur dinosaurs doll dolly helicopter inflatable marbles monster puppet "
        "puppets robot skittles spaceboy teddy toy toys"
    ),
    "children/games": (
        "bingo cards chess domino dominoes game games jigsaw kaleidoscope ludo playhouse "
        "puzzle puzzles quoit quoits skipping snakes solitaire spinning trumps yo-yo"
    ),
    "children/nursery": ("baby bib cot mobile moneybox piggy"),
    "children/party": ("balloon balloons bunting garland garlands party pinata streamer whistle"),
    "craft": (
        "bead beads button buttons clay craft crochet crystals embroidery fabric felt kit "
        "knitting mosaic patch patches ribbon ribbons scissor scissors sewing stencil "
        "stencils stitch wool"
    ),
    "fashion/accessories": (
        "apron belt boots charm fan flip-flops fob glove gloves hat hats headphones key- "
        "ring key-rings keyring keyrings mittens parasol poncho sarong scarf scarves shawl "
        "shoes skirt slipper slippers sock socks sunglasses t-shirt umbrella warmer warmers"
    ),
    "fashion/hair": (
        "bobbles clip clips comb grip grips hair hairband hairclip hairclips hairslide "
        "hairslides headband slide slides tiara"
    ),
    "fashion/jewellery": (
        "anklet bangle bracel bracelet bracelets brooch choker earings earring earrings "
        "jewellery lariat necklac necklace necklaces pearls pendant ring rings"
    ),
    "garden": (
        "bird birdcage birdfeeder birdhouse cage doormat feeder fork garden gnome grow "
        "hammock hook hooks marker plant planter pot pots propagator rake secateurs seeds "
        "spade thermometer trellis trowel watering wheelbarrow windmill"
    ),
    "home/bathroom": (
        "bath bathroom bottle bottles cosmetic cotton flannel hottie shower soap sponge "
        "talc tissue tissues toilet toothbrush toothpaste towel tweezer"
    ),
    "home/candles": (
        "burner candelabra candle candleholder candlepot candles candlestick fragrance "
        "holder incense joss lantern lanterns oil potpourri sachet scented t-light t-lights "
        "tealight votive"
    ),
    "home/clocks": ("alarm clock clocks watch"),
    "home/decoration": (
        "angel angels art bauble baubles bell bells blossom bowling bunny butterflies "
        "butterfly candy canvas cat chain chime decoration decorations dog dove drop drops "
        "duck ducks fairy feather feathers figurine flower flowers fruit globe hanger "
        "hanging heart hearts hen icicle icicles leis letter letters magnet magnetic "
        "magnets mirror mirrors mobile ornament ornaments owl pears picture plaque plaques "
        "plate-hanger poster rabbit reindeer rose roses santa sculpture sign signs "
        "snowflake snowman squirrel star stars statue sticker stickers swag tile tinsel "
        "tree trophy vase wall wicker wreath"
    ),
    "home/furniture": (
        "bench bookcase cabinet chair desk door drawer drawers dresser ladder rack screen "
        "seat shelf sideboard stand stool table trolley wardrobe"
    ),
    "home/knobs": ("doorknob doorstop drawerknob handle handles knob knobs stop"),
    "home/lights": (
        "bulb chandelier fairy-lights lamp lampshade lampshades light lights nightlight shade torch"
    ),
    "home/photo": ("album albums frame frames photo photoframe photograph"),
    "home/storage": (
        "basket baskets bin box boxes bucket cabinet canister case cases chest coaster-box "
        "crate drum hamper hatbox holdall jar jars organiser pail storage tidy tin tins "
        "toolbox trinket trunk tub tubs"
    ),
    "home/textiles": (
        "beanbag bedding bedspread blanket cover covers curtain curtains cushion cushions "
        "duvet linen mat pillow pouffe quilt rug runner tablecloth throw"
    ),
    "kitchen/baking": (
        "bakeware baking cake cakecase cakes cakestand cases cookie cupcake cutter cutters "
        "icing jelly mould moulds muffin pastry rolling whisk"
    ),
    "kitchen/cooking": (
        "board casserole chopping colander dispenser grater jam kitchen larder masher "
        "measure measuring mitt oven pan peg pegs preserving ramekin recipe saucepan scales "
        "sieve skewers slotted spatula spice squeezer timer utensil"
    ),
    "kitchen/cutlery": (
        "chopsticks corkscrew cutlery knife knives opener server servers spoon spoons "
        "spreader tongs"
    ),
    "kitchen/glass": (
        "beaker beakers carafe cocktail decanter flute glass glasses goblet goblets tumbler "
        "tumblers"
    ),
    "kitchen/mugs": ("cup cups egg eggcup mug mugs saucer saucers teacup teacups"),
    "kitchen/tableware": (
        "ashtray bbq bowl bowls butter cakestand coaster coasters creamer cruet dish dishes "
        "doilies doily jug lid napkin napkins pepper picnic placemat placemats plate plates "
        "platter salt serviette shaker shakers straw straws tagine tea-set teaset toast "
        "toastrack tray trays tureen"
    ),
    "kitchen/tea": ("cafetiere coffee flask kettle tea tea-towel teapot teatowel teatowels"),
    "stationery/cards": (
        "card envelope envelopes invitation invitations invites postcard postcards stamp stamps"
    ),
    "stationery/desk": (
        "blackboard bookend bookends bookmark calculator chalk chalkboard chalks clipboard "
        "colouring crayon crayons doodle eraser erasers folder noticeboard paint paints "
        "paperweight pen pencil pencils pens pin pins rubber rubbers ruler sharpener "
        "sharpeners sketchbook slate stationery tape tapes writing"
    ),
    "stationery/notebooks": (
        "address book books calendar diary jotter journal memo notebook notebooks notepad "
        "organizer pad planner record scrapbook"
    ),
    "stationery/wrap": ("bow bows gift-tape giftwrap paper rosette tag tags wrap wrapping wraps"),
    "health": (
        "balm bandage compact cream gloss inhaler lip massager nail plaster plasters polish powder"
    ),
}
"""Head nouns of a title, by the category they are taken for."""

COMPOUNDS = {"cake stand": "cakestand", "hot water bottle": "hottie", "tea towel": "tea-towel",
             "door mat": "doormat", "gift wrap": "giftwrap", "lunch box": "lunchbox",
             "lunch bag": "lunchbox", "photo frame": "photoframe"}  # fmt: skip
"""Two words that together name another thing than the last of them."""

THEMES: dict[str, str] = {
    "seasonal/christmas": "christmas xmas advent noel stocking",
    "seasonal/easter": "easter",
    "seasonal/halloween": "halloween",
    "seasonal/valentine": "valentine love wedding",
    "garden": "gardeners",
}
"""Looked for only where no head noun is known."""

PHRASE = re.compile(r"\s(?:with|in|for|on|from|w/)\s?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, default=SOURCE)
    parser.add_argument("--out", type=Path, default=TARGET)
    options = parser.parse_args()
    lines = clean_lines(read_source(options.source))
    items = make_items(lines)
    options.out.mkdir(parents=True, exist_ok=True)
    write(items.drop("index"), options.out / "items.parquet")
    write(index_lines(lines, items), options.out / "lines.parquet")
    known = items.filter(pl.col("category") != "other").height
    print(f"{known / items.height:.1%} of the items have a category")


def read_source(folder: Path) -> pl.DataFrame:
    """Both years, each day once, codes in one spelling."""
    first = pl.read_parquet(folder / "2009-2010.parquet").filter(pl.col("time") < OVERLAP_STARTS)
    second = pl.read_parquet(folder / "2010-2011.parquet")
    code = pl.col("stock_code").str.strip_chars().str.to_uppercase().alias("code")
    return pl.concat([first, second], how="vertical_relaxed").with_columns(code)


def clean_lines(rows: pl.DataFrame) -> pl.DataFrame:
    """Sales of products, one line an invoice and code, without those cancelled within a day."""
    rows = rows.filter(pl.col("code").str.contains(PRODUCT_CODE))
    sales = rows.filter(
        (pl.col("quantity") > 0)
        & (pl.col("unit_price") >= 0.01)
        & pl.col("invoice").str.contains(r"^\d+$")
    )
    amount = pl.col("quantity") * pl.col("unit_price")
    merged = sales.group_by("invoice", "code", maintain_order=True).agg(
        pl.col("time").min(),
        pl.col("quantity").sum(),
        (100 * amount.sum() / pl.col("quantity").sum()).round().cast(pl.Int32).alias("price_cents"),
        pl.col("customer", "country").first(),
        pl.col("description").drop_nulls().first(),
    )
    start = pl.col("time").min().over("invoice")
    merged = merged.with_columns(start.alias("time"))
    return drop_cancelled(merged, rows).sort("time", "invoice", maintain_order=True)


def drop_cancelled(sales: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Without the sales that the same customer took back in full, same code, within a day."""
    cancelled = rows.filter(pl.col("invoice").str.starts_with("C")).select(
        "customer", "code", (-pl.col("quantity")).alias("quantity"), pl.col("time").alias("back")
    )
    pairs = sales.join(cancelled, on=["customer", "code", "quantity"]).filter(
        (pl.col("back") >= pl.col("time"))
        & (pl.col("back") - pl.col("time") <= pl.duration(days=1))
    )
    return sales.join(pairs, on=["invoice", "code"], how="anti", maintain_order="left")


def make_items(lines: pl.DataFrame) -> pl.DataFrame:
    """The catalogue: title, derived category, median recent price, first seen."""
    recent = pl.col("time") >= pl.col("time").max() - pl.duration(days=PRICE_DAYS)
    items = lines.group_by("code").agg(
        pl.col("description").drop_nulls().mode().sort().last(),
        pl.col("price_cents").filter(recent).median().round().cast(pl.Int32),
        pl.col("time").min().dt.date().alias("created"),
    )
    titles = [title_of(text or "") for text in items["description"]]
    return (
        items.with_columns(
            pl.Series("title", titles), pl.Series("category", [category_of(t) for t in titles])
        )
        .filter(pl.col("title") != "", ~pl.col("title").str.contains("Voucher"))
        .select("code", "title", "category", "price_cents", "created")
        .sort("code")
        .with_row_index("index")
    )


def title_of(description: str) -> str:
    """`WHITE HANGING HEART T-LIGHT HOLDER` as `White Hanging Heart T-Light Holder`."""
    words = re.sub(r"\s*,\s*", ", ", description).strip(" .,*;").split()
    return " ".join(case_of(word.lower(), first=place == 0) for place, word in enumerate(words))


def case_of(word: str, *, first: bool) -> str:
    """One word of a title: small words stay small, `t-light` becomes `T-Light`."""
    if word in CAPITALS:
        return word.upper()
    if word in SMALL_WORDS and not first:
        return word
    return re.sub(r"(^|[-/(&+.])([a-z])", lambda m: m[1] + m[2].upper(), word)


def category_of(title: str) -> str:
    """The category of the last known noun, first before any `with`, `in` or `for`."""
    text = title.lower()
    for words, compound in COMPOUNDS.items():
        text = text.replace(words, compound)
    for table in (CATEGORIES, THEMES):
        index = {word: path for path, words in table.items() for word in words.split()}
        for part in (PHRASE.split(text)[0], text):
            for word in reversed(re.findall(r"[a-z][a-z-]*", part)):
                if word in index:
                    return index[word]
    return "other"


def index_lines(lines: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """The lines with items by their row in the catalogue, in the order of time."""
    rows = items.select("code", pl.col("index").cast(pl.UInt16).alias("item"))
    return lines.join(rows, on="code", how="inner", maintain_order="left").select(
        pl.col("invoice").cast(pl.UInt32),
        pl.col("time").dt.cast_time_unit("ms"),
        "item",
        pl.col("quantity").cast(pl.UInt32),
        "price_cents",
        pl.col("customer").cast(pl.UInt32),
        pl.col("country").replace_strict(COUNTRIES, default=None).cast(pl.Categorical),
    )


def write(frame: pl.DataFrame, path: Path) -> None:
    frame.write_parquet(path, compression="zstd", compression_level=19, row_group_size=2**20)
    print(f"{path}: {frame.height:,} rows, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
