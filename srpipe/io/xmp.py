"""A note of srpipe's own in an XMP packet, which PNG, JPEG, WebP and TIFF hold alike.

ISO 16684-1. Packets are changed as text: all that is in them stays as it is.
"""

import re
from html import escape, unescape

_SPACE = "urn:srpipe:1.0/"
_NOTE = re.compile(
    rb'<rdf:Description rdf:about="" xmlns:srpipe="urn:srpipe:1\.0/">'
    rb"<srpipe:record>(.*?)</srpipe:record></rdf:Description>",
    re.S,
)
_END = re.compile(rb"</rdf:RDF\s*>")
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF>'
    b'</x:xmpmeta><?xpacket end="w"?>'
)


def noted(xmp: bytes | None, text: str) -> bytes | None:
    """The packet with a text in it, in place of an earlier one.

    None where the packet is none that a text can be put into.
    """
    rest = bare(xmp or _EMPTY)
    ends = list(_END.finditer(rest))
    if len(ends) != 1:
        return None
    note = (
        f'<rdf:Description rdf:about="" xmlns:srpipe="{_SPACE}">'
        f"<srpipe:record>{escape(text)}</srpipe:record></rdf:Description>"
    )
    at = ends[0].start()
    return rest[:at] + note.encode() + rest[at:]


def bare(xmp: bytes) -> bytes:
    """The packet without such a text."""
    return _NOTE.sub(b"", xmp)


def note_in(xmp: bytes | None) -> str | None:
    """The text that `noted` put there."""
    found = _NOTE.search(xmp or b"")
    return unescape(found[1].decode(errors="replace")) if found else None
