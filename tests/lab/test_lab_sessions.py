"""Real sessions with a real server: what one leaves behind, what others see of it, runs that two people change."""

from collections.abc import Callable, Iterator

import psutil
import pytest
from client import Tab
from lab_server import LabServer

from lab_support import many_runs
from pianistid_core.runs import Run
from tiny import until

UPLOAD = "import_zip"
MUCH = 60 << 20
TTL_S = "4"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A lab with a few runs, which ends pages two seconds after they were closed."""
    base = tmp_path_factory.mktemp("sessions")
    many_runs(base / "home", 3)
    with LabServer(base / "home", base / "cache", options={"server.disconnectedSessionTTL": TTL_S}) as lab:
        yield lab
        assert lab.troubles() == []


def of_the_server(lab: LabServer, what: Callable[[psutil.Process], int]) -> int:
    return what(psutil.Process(lab.process.pid))


def resident(process: psutil.Process) -> int:
    return int(process.memory_info().rss)


def test_uploads_and_files_of_a_closed_page_are_given_back(server: LabServer) -> None:
    with server.tab() as warm:
        warm.open("data")
        warm.upload(UPLOAD, {"small.zip": b"PK"})
    with server.tab() as stays:
        stays.open("data")
        files, before = of_the_server(server, psutil.Process.num_fds), of_the_server(server, resident)
        with server.tab() as tab:
            tab.open("data")
            assert tab.upload(UPLOAD, {"large.zip": bytes(MUCH)}) == [204]
            assert of_the_server(server, resident) > before + MUCH // 2
        # While another page is open and nothing else happens.
        until(lambda: of_the_server(server, resident) < before + MUCH // 3)
        until(lambda: of_the_server(server, psutil.Process.num_fds) <= files)
        stays.rerun()
        assert stays.told.exceptions == []


def test_another_session_sees_nothing_of_an_upload(server: LabServer) -> None:
    with server.tab() as mine, server.tab() as theirs:
        mine.open("data")
        mine.upload(UPLOAD, {"only-mine-4711.zip": b"PK\x05\x06" + bytes(18)})
        theirs.open("data")
        theirs.adopt(theirs.widget(UPLOAD).id, mine.held()[0])
        assert not any("only-mine-4711" in str(element) for element in theirs.elements())
        assert theirs.told.exceptions == []


def test_a_page_whose_run_vanishes_says_so(server: LabServer) -> None:
    run = Run.create(server.root / "checkpoints", "study", "vanishing")
    run.set_state("stopped", "by hand", epochs=3)
    with server.tab() as tab, server.tab() as other:
        tab.open("runs", run=run.id)
        other.open("compare", runs=f"{run.id},study-0/run-0000")
        run.delete()
        tab.watch(0.1)
        tab.rerun()
        other.rerun()
        assert run.id in tab.words() and "not here any more" in other.words()
        assert tab.told.exceptions == other.told.exceptions == []


def test_compare_takes_other_runs_while_its_field_is_there(server: LabServer) -> None:
    with server.tab() as tab:
        tab.open("compare", runs="study-0/run-0000,study-1/run-0001")
        tab.open("compare", runs="study-0/run-0000,study-2/run-0002")
        assert tab.told.exceptions == []
        assert tab.query["runs"] == ["study-0/run-0000", "study-2/run-0002"]


def test_of_two_people_who_tag_one_run_neither_loses(server: LabServer) -> None:
    def choose(tab: Tab) -> None:
        tab.open("runs", runs_filter="run-0001")
        tab.select_rows("runs_table", [0])

    with server.tab() as one, server.tab() as two:
        choose(one)
        choose(two)
        one.fill("bulk_tag_text", "mine")
        two.fill("bulk_tag_text", "theirs")
        tags = Run.find(server.root / "checkpoints", "study-1/run-0001").labels().tags
        assert tags == ("mine", "theirs")
        assert one.told.exceptions == two.told.exceptions == []
