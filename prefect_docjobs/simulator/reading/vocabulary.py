"""The words that documents and their readers use for the same thing."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

# Canonical name: what else documents print, or templates ask for, in English, German and French.
_FIELDS = {
    "invoice_number": "invoice_no invoice_nr invoice_id invoice number no nr rechnungsnummer rechnungs_nr"
    " rechnung_nr rechnungsnr numero_de_facture facture_no facture_n receipt_number receipt_no receipt_id"
    " document_number",
    "date": "invoice_date issue_date date_of_issue issued issued_on datum rechnungsdatum date_de_facture"
    " document_date receipt_date purchase_date order_date date_issued",
    "due_date": "due due_on payment_due payment_due_date pay_by faellig_am fallig_am faelligkeitsdatum"
    " falligkeitsdatum zahlbar_bis echeance date_d_echeance",
    "supplier_name": "supplier provider service_provider vendor vendor_name seller seller_name merchant"
    " merchant_name from company company_name shop store issuer lieferant rechnungssteller fournisseur",
    "customer_name": "customer client client_name buyer buyer_name bill_to billed_to invoice_to sold_to kunde"
    " rechnung_an rechnungsempfaenger rechnungsempfanger facture_a",
    "currency": "currency_code wahrung waehrung devise",
    "subtotal": "sub_total subtotal_amount net net_amount net_total total_net amount_net netto nettobetrag"
    " summe_netto zwischensumme total_ht sous_total total_excl_tax",
    "tax": "tax_amount total_tax vat vat_amount sales_tax gst mwst mw_st mwst_betrag ust umsatzsteuer"
    " mehrwertsteuer tva taxes",
    "tax_rate": "vat_rate mwst_satz steuersatz taux_tva",
    "total_amount": "total amount_total grand_total total_due amount_due balance_due total_incl_tax"
    " total_gross gross_total gross_amount gesamt gesamtbetrag gesamtsumme rechnungsbetrag summe brutto"
    " bruttobetrag endbetrag total_ttc montant_total amount_payable order_total total_price",
    "purchase_order_number": "purchase_order po po_number po_no purchase_order_no order_number order_no"
    " bestellnummer bestell_nr",
    "document_type": "document_kind type_of_document kind_of_document",
}

_ITEM_COLUMNS = {
    "description": "item article product service position beschreibung bezeichnung artikel leistung"
    " designation name",
    "quantity": "qty menge anzahl quantite count pcs hours units",
    "unit_price": "price unit_cost price_each each rate preis einzelpreis stuckpreis prix prix_unitaire unit",
    "amount": "line_total total line_amount total_price sum betrag gesamt gesamtpreis summe montant subtotal"
    " total_amount",
}

ITEM_COLUMNS = frozenset(_ITEM_COLUMNS)

AMOUNTS = frozenset(
    {"subtotal", "tax", "tax_rate", "total_amount", "discount", "shipping", "tip", "cash", "change"}
)
_AMOUNT_ENDINGS = ("_amount", "_total", "_price", "_fee", "_cost", "_tax")
_DATE_WORDS = frozenset({"date", "birthday"})

_KINDS = (
    ("document", ("purchase order", "bestellung", "bon de commande")),
    ("invoice", ("invoice", "tax invoice", "rechnung", "facture", "factura", "fattura")),
    ("receipt", ("receipt", "quittung", "kassenbon", "recu")),
    ("contract", ("contract", "agreement", "vertrag", "contrat")),
    ("form", ("form", "application", "questionnaire", "registration", "formular", "antrag", "formulaire")),
)


def folded(text: str) -> str:
    """Lower case without accents, sharp s as ss."""
    decomposed = unicodedata.normalize("NFKD", text.replace("\u00df", "ss"))
    return "".join(char for char in decomposed if not unicodedata.combining(char)).lower()


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """A label or a name as `snake_case` in ASCII: `Invoice No.` and `invoiceNo` are both `invoice_no`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[^a-z0-9]+", "_", folded(parted)).strip("_")


def _by_synonym(table: dict[str, str]) -> dict[str, str]:
    return {word: name for name, words in table.items() for word in (name, *words.split())}


_FIELD_SYNONYMS = _by_synonym(_FIELDS)
_ITEM_SYNONYMS = _by_synonym(_ITEM_COLUMNS)


def field_name(name: str) -> str:
    """The canonical name of a field; an unknown one stays itself in `snake_case`."""
    plain = snake_case(name)
    return _FIELD_SYNONYMS.get(plain, plain)


def is_known_field(name: str) -> bool:
    """Whether the name is one of the canonical names or their synonyms."""
    return snake_case(name) in _FIELD_SYNONYMS


def is_canonical(name: str) -> bool:
    """Whether the name is one that synonyms lead to."""
    return name in _FIELDS


def column_name(name: str) -> str:
    """The canonical name of a column of a table of items; an unknown one stays itself in `snake_case`."""
    plain = snake_case(name)
    return _ITEM_SYNONYMS.get(plain, plain)


def is_known_column(name: str) -> bool:
    """Whether the name is a known column of a table of items."""
    return snake_case(name) in _ITEM_SYNONYMS


def is_amount(name: str) -> bool:
    """Whether a field of this canonical name holds a number."""
    return name in AMOUNTS or name.endswith(_AMOUNT_ENDINGS)


def is_date(name: str) -> bool:
    """Whether a field of this canonical name holds a date."""
    return name.endswith("_on") or not _DATE_WORDS.isdisjoint(name.split("_"))


def kind_of_title(line: str) -> str | None:
    """The kind of document that a heading announces, None if it announces none."""
    words = f" {snake_case(line).replace('_', ' ')} "
    return next((kind for kind, titles in _KINDS if any(f" {title} " in words for title in titles)), None)
