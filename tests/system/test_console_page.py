"""The console's page in a real Chromium, before a made-up fleet."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect

from infra.ports import HeldPort
from tests.fakes import console as real
from tests.fakes.chromium import browser, chromium
from tests.fakes.console_fleet import HOSTILE, SyntheticFleet, worker_roll
from tests.fakes.console_origin import API_KEY, TOKEN, ConsoleOrigin
from tests.fakes.console_page import VIEWS, Console, open_page, opened
from tests.fakes.looks import state_of
from tests.fakes.waiting import until_async

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]
NODES = 120
MIDDLE_OF_FIRST = """() => {
  const canvas = document.querySelector("canvas");
  return [...canvas.getContext("2d").getImageData(6, 6, 1, 1).data];
}"""
FORBIDDEN = """async () => {
  const refused = new Set();
  addEventListener("securitypolicyviolation", (event) => refused.add(event.effectiveDirective));
  const add = (html) => document.body.append(document.createRange().createContextualFragment(html));
  add("<script>globalThis.hacked = 1</script>");
  add("<img src=https://evil.invalid/a.png style='color: red'>");
  add("<iframe src=https://evil.invalid/></iframe>");
  add("<form action=https://evil.invalid/></form>");
  document.forms[document.forms.length - 1].submit();
  await fetch("https://evil.invalid/").catch(() => {});
  for (let tries = 0; refused.size < 6 && tries < 3000; tries++)
    await new Promise((done) => setTimeout(done, 10));
  return [...refused].sort();
}"""
KEEP_WORDS = """node => {
  globalThis.words = [node.textContent];
  const options = { subtree: true, childList: true, characterData: true };
  new MutationObserver(() => words.push(node.textContent)).observe(node, options);
}"""
REFUSED = "Failed to load resource: the server responded with a status of 401"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(chrome: Browser) -> AsyncIterator[Console]:
    """One page for most tests: to open one takes longer than most of them."""
    async with opened(chrome, ConsoleOrigin(fleet())) as console:
        yield console


@pytest_asyncio.fixture(loop_scope="module")
async def console(shared: Console) -> AsyncIterator[Console]:
    """With a troubled fleet; each test leaves it logged in, and without a complaint."""
    await shared.again(fleet())
    yield shared
    assert shared.complaints == []


def fleet(**given: bool) -> SyntheticFleet:
    return SyntheticFleet(NODES, **given)


async def test_only_an_administrator_gets_in_and_the_token_is_not_kept(chrome: Browser) -> None:
    async with opened(chrome, ConsoleOrigin(fleet()), logged_in=False) as console:
        page = console.page
        await expect(page.get_by_label("Administrator’s token")).to_be_focused()
        await console.log_in("another's")
        await expect(page.get_by_role("alert")).to_contain_text("not an administrator's")
        assert await page.get_by_role("navigation", name="Views").count() == 0
        await console.log_in()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        stored = await page.evaluate(
            "JSON.stringify([localStorage, sessionStorage, document.cookie])"
        )
        assert TOKEN not in stored
        assert "login" not in stored
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("status")).to_have_count(1)
        await expect(page.get_by_text("You are logged out.")).to_be_visible()
        assert console.complaints.pop().startswith(REFUSED)
        await page.goto(f"{console.url}/console#/rolls")
        await expect(page.get_by_text("You are logged out.")).to_be_visible()
        await console.log_in()
        await expect(page.get_by_role("heading", name="Rolls", exact=True)).to_be_visible()


async def test_logins_are_seen_and_signed_out_one_by_one(console: Console) -> None:
    page = console.page
    await page.get_by_role("link", name="Logins").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Logins")
    cards = page.get_by_role("listitem").filter(has_text="From")
    await expect(cards).to_have_count(3)
    await expect(cards.first).to_contain_text("Chrome on Linuxthis browser")
    await expect(cards.last).to_contain_text("2001:db8:7::/48")
    out = page.get_by_role("button", name="Sign out Safari on iPhone, 198.51.100.0/24")
    await out.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("Safari on iPhone is signed out.")).to_be_visible()
    await expect(cards).to_have_count(2)
    # Where the focus was is no button any more: it goes to the head, not to nowhere.
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
    console.origin.untold = "done at this origin; the store does not answer"
    await page.get_by_role("button", name="Sign out everywhere else").click()
    await expect(page.get_by_text("1 other login signed out.")).to_be_visible()
    await expect(page.get_by_role("alert")).to_have_text(
        "For now done at this origin; the store does not answer."
    )
    await expect(page.get_by_role("button", name="Sign out everywhere else")).to_be_hidden()
    await page.get_by_role("button", name="Sign out this browser").click()
    await expect(page.get_by_text("You are logged out.")).to_be_visible()
    await console.log_in()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Logins")


async def test_a_logout_that_was_not_heard_is_said_to_be_none(console: Console) -> None:
    page = console.page
    await page.route("**/api/logout", lambda route: route.abort(), times=1)
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("alert").filter(has_text="You are still")).to_contain_text(
        "You are still logged in: The origin does not answer."
    )
    assert console.complaints.pop().startswith("Failed to load resource: net::ERR_FAILED")
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_text("You are logged out.")).to_be_visible()
    await console.log_in()


async def test_every_view_can_be_linked_to(console: Console) -> None:
    for place, title in VIEWS.items():
        await console.go(place)
        await expect(console.page.get_by_role("heading", level=1)).to_have_text(title)
        await expect(console.page).to_have_title(f"{title} · Headwater")
    # The squares have the colours of their states, also where nothing happens for long.
    await console.go("fleet")
    await expect(console.page.locator("canvas")).to_have_count(6)

    async def is_ready() -> bool:
        seen: list[int] = await console.page.evaluate(MIDDLE_OF_FIRST)
        return seen == [79, 174, 120, 255]  # --heat-ok

    await until_async(is_ready)
    # A worker's details are a place as well.
    await console.go("fleet/workers/gpu-18%2Fchat-small")
    details = console.page.get_by_role("complementary", name="One node")
    await expect(details).to_contain_text("out_of_memory")
    await details.get_by_role("link", name="Its boots").click()
    await expect(console.page.get_by_role("img", name="Boot of chat-small")).to_be_visible()
    await console.page.get_by_text("As a table").click()
    steps = console.page.get_by_role("table", name="Steps of the boot of chat-small")
    await expect(steps.get_by_role("row", name="pull: chunks from edge-1")).to_contain_text("1.4 s")
    # Of a worker that is not there, what the origin says.
    await console.page.get_by_label("Worker").fill("gpu-none")
    await console.page.get_by_role("button", name="Show").click()
    await expect(console.page.get_by_text("no edge that is here knows gpu-none")).to_be_visible()
    assert console.complaints.pop().startswith("Failed to load resource")


async def test_a_fleet_that_is_not_there_yet_is_told_in_words(console: Console) -> None:
    page = console.page
    empty = state_of(pointers=[])
    console.origin.send(msgspec.to_builtins(empty), "state")
    await expect(page.locator("#health")).to_contain_text("no edge has reported to this origin")
    for place, told in {
        "overview": ["No edge is known, and so no region."],
        "fleet/workers": ["0 workers.", "None is known yet."],
        "rolls": ["No roll yet.", "Nothing is published yet"],
        "gateway": ["No edge has told of a request yet.", "No request has been routed yet."],
        "boots": ["No worker is known."],
    }.items():
        await console.page.goto(f"{console.url}/console#/{place}")
        for words in told:
            await expect(page.get_by_text(words)).to_be_visible()
    await expect(page.get_by_text("logarithmic")).to_be_hidden()


async def test_a_node_that_is_not_in_the_fleet_is_said_to_be_none(console: Console) -> None:
    details = console.page.get_by_role("complementary", name="One node")
    for name in ("gpu-none", "constructor", "__proto__"):
        await console.go(f"fleet/workers/{name}")
        await expect(details.get_by_role("heading")).to_have_text(name)
        await expect(details).to_contain_text("not in the fleet")


async def test_an_origin_that_is_away_is_asked_again_by_the_page_itself(console: Console) -> None:
    page = console.page
    await page.route("**/api/session", lambda route: route.abort(), times=1)
    await page.reload(wait_until="commit")
    await expect(page.get_by_text("The origin does not answer. Trying again.")).to_be_visible()
    await page.evaluate("globalThis.same = true")
    await expect(page.locator("#health")).to_be_visible()
    assert await page.evaluate("globalThis.same")
    assert console.complaints.pop().startswith("Failed to load resource: net::ERR_FAILED")


async def test_a_page_that_the_browser_kept_asks_for_a_stream_anew(console: Console) -> None:
    again = "dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))"
    async with console.page.expect_request("**/api/live"):
        await console.page.evaluate(again)
    await expect(console.page.locator("#connection")).to_contain_text("Live")


async def test_what_happens_is_seen_as_it_happens(console: Console) -> None:
    await console.again(fleet(troubled=False))
    page, origin = console.page, console.origin
    await expect(page.locator("#health")).to_contain_text("All is well")
    trouble = {"healthy": False, "problems": ["worker gpu-7 is missing: silent for 12 s"]}
    origin.send({"totals": {**trouble, "requests_per_s": 77.7}})
    await expect(page.locator("#health")).to_contain_text("1 problem")
    await expect(page.get_by_role("listitem").filter(has_text="gpu-7")).to_be_visible()
    await expect(page.locator(".tile").first).to_contain_text("77.7")
    await console.go("fleet/workers")
    shows = console.row("gpu-7/chat-small")
    await shows("ready")
    origin.send({"workers": {"gpu-7/chat-small": {"state": "missing", "reason": "silent"}}})
    await shows("missing")
    await shows("silent")
    origin.send({"workers": {"gpu-7/chat-small": None}})
    await expect(page.get_by_role("link", name="gpu-7/chat-small")).to_have_count(0)


async def test_a_roll_is_seen_to_move(console: Console) -> None:
    await console.go("rolls")
    roll = console.page.get_by_role("listitem").filter(has_text="chat-small@stable")
    progress = roll.get_by_role("progressbar")
    total = int(await progress.get_attribute("aria-valuemax") or 0)
    await expect(progress).to_have_attribute("aria-valuenow", str(int(total * 0.136)))
    await expect(roll).to_contain_text("canary of 10 %")
    # How long ago is by the origin's clock: the browser's may be anything.
    since = console.origin.state["rolls"]["chat-small@stable"]["since"]
    console.origin.send({"at": since + 125})
    await expect(roll).to_contain_text("for 2 min 5 s")
    await expect(roll.locator("[aria-current=step]")).to_have_text("observing")
    console.origin.send(console.origin.fleet.roll(0.8))
    await expect(progress).to_have_attribute("aria-valuenow", str(int(total * 0.8)))
    await expect(roll.locator("[aria-current=step]")).to_have_text("rolling")
    console.origin.send(console.origin.fleet.roll(1.0))
    await expect(roll).to_contain_text(f"{total} of {total} workers (100 %)")
    stopped = console.page.get_by_role("listitem").filter(has_text="chat-large@stable")
    await expect(stopped).to_contain_text("probe_failed at gpu-34: the golden answers differ")
    channels = console.page.get_by_role("table", name="Channels")
    await expect(channels.get_by_role("row", name="chat-small@stable")).to_contain_text(
        "not consistent"
    )


async def test_a_workers_roll_is_shown_step_by_step_while_it_goes_on(console: Console) -> None:
    page, origin = console.page, console.origin
    await console.go("fleet/workers/gpu-18%2Fchat-small")
    await page.get_by_role("link", name="Its roll").click()
    one = page.get_by_role("region", name="Roll of chat-small", exact=True)
    await expect(one).to_contain_text("serves; the old one drains")
    await expect(one.get_by_role("img", name="Roll of chat-small, 19.5 s")).to_be_visible()
    await expect(one.locator("rect.now")).to_have_count(1)
    await one.get_by_text("As a table").click()
    steps = one.get_by_role("table", name="Steps of the roll of chat-small")
    await expect(steps.get_by_role("row", name="probe: first token")).to_contain_text("310 ms")
    await page.evaluate("document.activeElement.blur()")
    # It goes on: what is new comes by itself, and the table stays open.
    over = msgspec.structs.replace(worker_roll(draining_ms=12_000.0), step="")
    origin.roll = over
    for _ in range(200):
        origin.send({"at": origin.state["at"]})
        if "drain" not in await one.locator(".badge").inner_text():
            break
        await page.wait_for_timeout(50)
    await expect(one.locator(".badge")).to_have_text("✓serves")
    await expect(one.locator("rect.now")).to_have_count(0)
    await expect(steps.get_by_role("row", name="drain")).to_contain_text("12 s")
    # One that failed says why; one that never rolled says so.
    origin.roll = msgspec.structs.replace(over, outcome="failed", reason="probe_failed: nonsense")
    await page.get_by_role("button", name="Show").click()
    await expect(one).to_contain_text("probe_failed: nonsense")
    origin.roll = msgspec.UNSET
    await page.get_by_role("button", name="Show").click()
    await expect(page.get_by_text("gpu-18 has not rolled since it booted.")).to_be_visible()
    # Who is on their way is one link away.
    on_their_way = page.get_by_role("list", name="Workers on their way").first
    await on_their_way.get_by_role("link", name="gpu-13").click()
    await expect(page.get_by_label("Worker", exact=True)).to_have_value("gpu-13")


async def test_the_playground_streams_stops_and_keeps_no_key(console: Console) -> None:
    origin = console.origin
    origin.answer = ("Paris", *(" is" for _ in range(4_000)))
    origin.pause_s = 0.02
    page = console.page
    await console.go("playground")
    await page.get_by_label("Edge", exact=True).select_option("http://edge-2:7401")
    await page.get_by_label("API key").fill("wrong")
    await page.get_by_label("Prompt").fill("What is the capital of France?")
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_role("alert")).to_contain_text("this API key is not known")
    assert console.complaints.pop().startswith(REFUSED)
    await page.get_by_label("API key").fill(API_KEY)
    await page.get_by_role("button", name="Send").click()
    answer = page.get_by_role("region", name="Text of the answer")
    await expect(answer).to_contain_text("Paris is is")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("status").filter(has_text="Stopped.")).to_be_visible()
    said = page.get_by_role("region", name="The answer", exact=True)
    await expect(said).to_contain_text("worker; model=chat-small")
    await expect(said).to_contain_text("complexity 0.12 is below 0.50")
    await expect(said).to_contain_text("tokens/s")
    await expect(said.get_by_text("sanitize")).to_be_visible()
    asked = origin.asked[-1]
    assert asked["headers"]["X-Headwater-Edge"] == "http://edge-2:7401"
    assert asked["body"]["model"] == "auto"
    assert asked["body"]["stream"] is True
    assert API_KEY not in await page.evaluate("JSON.stringify([localStorage, sessionStorage])")
    await page.get_by_role("button", name="Log out").click()
    await console.log_in()
    await console.go("playground")
    await expect(page.get_by_label("API key")).to_have_value("")


async def test_everything_can_be_reached_by_keys_alone(console: Console) -> None:
    page = console.page
    press = page.keyboard.press
    await page.goto(f"{console.url}/console")
    await expect(page.locator("#health")).to_be_visible()
    await press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()
    await page.get_by_role("link", name="Fleet").focus()
    await press("Enter")
    await expect(page.get_by_role("heading", name="Fleet")).to_be_focused()
    await page.get_by_label("Filter").focus()
    await page.keyboard.type("chat-small eu-west")
    await expect(page.get_by_text("workers fit.")).to_be_visible()
    links = page.get_by_role("table", name="Workers").get_by_role("link")
    while not await links.first.evaluate("link => link === document.activeElement"):
        await press("Tab")
    await press("ArrowDown")
    await expect(links.nth(1)).to_be_focused()
    await press("End")
    await press("Home")
    await expect(links.first).to_be_focused()
    name = await links.first.inner_text()
    await press("Enter")
    details = page.get_by_role("complementary", name="One node")
    await expect(details).to_contain_text(name)
    await details.get_by_role("button", name="Close").focus()
    await press("Enter")
    await expect(details).to_be_hidden()
    await page.get_by_role("button", name="Queue").focus()
    await press("Enter")
    await expect(page.get_by_role("columnheader", name="Queue")).to_have_attribute(
        "aria-sort", "ascending"
    )
    failed = page.get_by_role("button", name=re.compile("^failed"))
    await failed.focus()
    await press("Space")
    await expect(failed).to_have_attribute("aria-pressed", "true")
    assert "state=failed" in page.url
    assert "words=chat-small" in page.url


async def test_the_origin_itself_is_understood(chrome: Browser) -> None:
    """Its own routes and stream, its cookie, its policy for scripts; only the nodes are made up."""
    context = await chrome.new_context(reduced_motion="reduce")
    async with real.running_console(60, 200) as served:
        console = await open_page(context, ConsoleOrigin(fleet()), served.url)
        page = console.page
        await page.goto(f"{served.url}/console")
        await console.log_in("another's")
        await expect(page.get_by_role("alert")).to_contain_text("not an administrator's")
        assert console.complaints.pop().startswith(REFUSED)
        await console.log_in(served.token)
        await expect(page.locator("#connection")).to_contain_text("Live")
        await expect(page.locator(".tile").first).not_to_contain_text("–")
        await served.roll("chat")
        await console.go("rolls")
        roll = page.get_by_role("listitem").filter(has_text="chat@stable")
        await expect(roll.locator(".badge")).to_contain_text("▶")
        await expect(roll.get_by_role("progressbar")).to_have_attribute("aria-valuemax", "20")
        await console.go("fleet/workers/worker-00001%2Fcode")
        await page.get_by_role("link", name="Its boots").click()
        await expect(page.get_by_role("img", name="Boot of code")).to_be_visible()
        await console.go("rolls?worker=worker-00001")
        await expect(page.get_by_role("img", name="Roll of code")).to_be_visible()
        await console.go("gateway")
        stages = page.get_by_role("table", name="Stages of the gateway")
        await expect(stages.get_by_role("row", name="sanitize")).to_contain_text(
            re.compile("[mµ]s")
        )
        assert await page.evaluate(FORBIDDEN) == [
            *("connect-src", "form-action", "frame-src", "img-src"),
            *("script-src-elem", "style-src-attr"),
        ]
        assert await page.evaluate("globalThis.hacked") is None
        console.complaints.clear()
        await console.go("playground")
        await page.get_by_label("API key").fill(real.API_KEY)
        await page.get_by_label("Prompt").fill("one two three")
        await page.get_by_role("button", name="Send").click()
        said = page.get_by_role("region", name="The answer", exact=True)
        await expect(said).to_contain_text("You said: one two three")
        await expect(said).to_contain_text("complexity 0.21 < 0.50")
        await page.get_by_role("button", name="Stop").click()
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_text("You are logged out.")).to_be_visible()
        await page.reload()
        await expect(page.get_by_label("Administrator’s token")).to_be_visible()
        await context.close()
    assert console.complaints == []


async def test_hostile_names_are_nothing_but_text(console: Console) -> None:
    await console.again(fleet(hostile=True))
    page = console.page
    totals = {"problems": list(HOSTILE), "healthy": False, "trust": HOSTILE[0]}
    state = console.origin.state
    rolls = {name: {**state["rolls"]["chat-small@stable"]} for name in HOSTILE}
    for roll in rolls.values():
        roll |= {"stage": HOSTILE[0], "reason": HOSTILE[1], "revision": HOSTILE[4]}
    console.origin.send(
        {
            "totals": totals,
            "rolls": rolls,
            "version": HOSTILE[1],
            "regions": dict.fromkeys(HOSTILE, state["regions"]["eu-west"]),
            "channels": dict.fromkeys(HOSTILE, state["channels"]["embed@stable"]),
            "stages": dict.fromkeys(HOSTILE, state["stages"]["auth"]),
            "routes": {
                name: {"target": name, "reason": name, "count": 1, "share": 0.1} for name in HOSTILE
            },
        }
    )
    for place in VIEWS:
        await page.goto(f"{console.url}/console#/{place}")
        await expect(page.get_by_role("heading", level=1)).to_have_text(VIEWS[place])
    await page.goto(f"{console.url}/console#/fleet/workers?state=failed")
    shown = page.get_by_role("table", name="Workers")
    await expect(
        shown.get_by_role("link", name="<img src=x onerror=alert(1)>/<img")
    ).to_be_visible()
    await expect(shown.get_by_role("link", name="__proto__/__proto__")).to_be_visible()
    await expect(shown.get_by_role("link", name="‹202e›gpj.exe‹2066›‹200b›").first).to_be_visible()
    await shown.get_by_role("link", name="<img src=x onerror=alert(1)>/<img").click()
    await expect(page.get_by_role("complementary", name="One node")).to_contain_text("<img src=x")
    assert await page.locator("main img, main script, body > script").count() == 0
    assert await page.evaluate("[globalThis.hacked, ({}).state]") == [None, None]


async def test_thousands_of_rows_are_few_in_the_document(console: Console) -> None:
    await console.again(SyntheticFleet(2_000))
    page = console.page
    await console.go("fleet/workers?sort=name")
    table = page.get_by_role("table", name="Workers")
    workers = len(console.origin.fleet.workers)
    await expect(table).to_have_attribute("aria-rowcount", str(workers + 1))
    assert await table.locator("tbody tr").count() < 60
    await page.get_by_role("region", name="Workers, scrolls").evaluate(
        "table => (table.scrollTop = table.scrollHeight)"
    )
    last = table.locator(f"tr[aria-rowindex='{workers + 1}']")
    await expect(last).to_contain_text(f"gpu-{workers}/")
    await page.get_by_label("Filter").fill("gpu-1321")
    await expect(page.get_by_text(f"1 of {workers:,} workers fit.")).to_be_visible()
    await page.get_by_label("Filter").fill("there is no such worker")
    await expect(page.get_by_text("Nothing fits this filter.")).to_be_visible()
    await page.get_by_role("button", name="Show all").click()
    await expect(table).to_have_attribute("aria-rowcount", str(workers + 1))


async def test_a_stream_that_breaks_comes_back(console: Console) -> None:
    await console.again(fleet(troubled=False))
    page, origin = console.page, console.origin
    connection = page.locator("#connection")
    await expect(connection).to_contain_text("Live")
    await connection.evaluate(KEEP_WORDS)
    origin.hang_up()

    async def has_said() -> bool:  # for a moment: a busy machine lets it pass between two looks
        words: list[str] = await page.evaluate("words")
        return any("Reconnecting: next try in" in said for said in words)

    await until_async(has_said)
    await expect(page.locator("#health")).to_contain_text("All is well")
    await expect(connection).to_contain_text("Live")
    origin.logged_in.clear()
    origin.hang_up()
    await expect(page.get_by_text("Your session has ended: log in again.")).to_be_visible()
    await console.log_in()
    await expect(connection).to_contain_text("Live")


async def test_a_page_over_an_upgrade_of_its_origin_says_so(console: Console) -> None:
    page = console.page
    again = page.get_by_role("link", name="Load the page again")
    await expect(again).to_be_hidden()
    console.origin.send({"version": "9.9.9"})
    await console.go("rolls")
    await again.click()
    await expect(page.get_by_role("heading", name="Rolls", exact=True)).to_be_visible()
    await expect(again).to_be_hidden()


async def test_a_page_left_open_over_a_restart_goes_on_with_its_login(
    chrome: Browser, tmp_path: Path
) -> None:
    """A real origin, stopped and started again on its folder and port."""
    context = await chrome.new_context(reduced_motion="reduce")
    with closing(HeldPort()) as port:
        await _over_a_restart(context, tmp_path, port.number)
    await context.close()


async def _over_a_restart(context: BrowserContext, folder: Path, port: int) -> None:
    async with real.running_console(30, 0, folder=folder, port=port) as served:
        console = await open_page(context, ConsoleOrigin(fleet()), served.url)
        await console.page.goto(f"{served.url}/console#/logins")
        await console.log_in(served.token)
        own = console.page.get_by_role("listitem").filter(has_text="this browser")
        await expect(own).to_contain_text("this machine")
        connection = console.page.locator("#connection")
        await expect(connection).to_contain_text("Live")
    await expect(connection).to_contain_text("Reconnecting")
    async with real.running_console(30, 0, folder=folder, port=port):
        await expect(connection).to_contain_text("Live", timeout=60_000)
        await expect(own).to_be_visible()
        await console.page.get_by_role("button", name="Log out").click()
        await expect(console.page.get_by_text("You are logged out.")).to_be_visible()


async def test_colours_are_the_systems_or_as_chosen(console: Console) -> None:
    await console.page.emulate_media(color_scheme="dark")
    page = console.page
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = await page.evaluate(ground)
    await page.get_by_role("button", name="Colours: as the system").click()
    assert await page.evaluate(ground) != dark
    await page.reload()
    await page.get_by_role("button", name="Colours: light").click()
    assert await page.evaluate(ground) == dark
    await page.get_by_role("button", name="Colours: dark").click()
    assert await page.evaluate("localStorage.getItem('headwater-theme')") == ""
    await page.emulate_media(color_scheme="light")
