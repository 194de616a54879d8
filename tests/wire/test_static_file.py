from __future__ import annotations

import pytest

from wire.errors import ManifestInvalidError
from wire.static_file import StaticFile, check_static_files

SCRIPT = StaticFile(type="text/javascript; charset=utf-8")
FORM = StaticFile(type=SCRIPT.type, coding="br")


def test_a_file_with_its_forms_passes() -> None:
    check_static_files({"a.js": SCRIPT, "a.js.br": FORM, "b.png": StaticFile(type="image/png")})


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"a.js": None}, "has a media type"),
        ({"a.js": StaticFile(type="")}, "no media type"),
        ({"a.js": StaticFile(type="text")}, "no media type"),
        ({"a.js": StaticFile(type="text/html\r\nSet-Cookie: a=b")}, "no media type"),
        ({"a.js": StaticFile(type="text/html; charset=utf-8\n")}, "no media type"),
        ({"a.js": StaticFile(type="text/html; charset=utf-7")}, "no media type"),
        ({"a.js": StaticFile(type="a/" + "b" * 200)}, "no media type"),
        ({"a.js.br": FORM}, "no file that it is the br of"),
        ({"a.js": SCRIPT, "a.js.gz": FORM}, "no file that it is the br of"),
        ({"a.js": SCRIPT, "a.js.br": FORM, "a.js.br.br": FORM}, "no file that it is the br of"),
        ({"a.js": SCRIPT, "a.js.br": StaticFile(type="text/css", coding="br")}, "otherwise"),
        (
            {"a.js": SCRIPT, "a.js.br": StaticFile(type=SCRIPT.type, coding="br", immutable=True)},
            "otherwise",
        ),
    ],
)
def test_what_would_mislead_a_browser_is_refused(
    files: dict[str, StaticFile | None], why: str
) -> None:
    with pytest.raises(ManifestInvalidError, match=why):
        check_static_files(files)
