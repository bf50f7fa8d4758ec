"""Logins of tracking servers: they are used, and nothing shows or keeps a password."""

from __future__ import annotations

import pickle
import shlex
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from pydantic import ValidationError

from bob.case import Failure
from bob.catalog.download import RemoteFile
from bob.catalog.schema import Weights
from bob.cli import main
from bob.errors import BobError
from bob.options.shell import left_out, repeated_words
from bob.redaction import redacted, without_password
from bob.shown import block, line
from bob.tracking import Destination, check_reachable, resolve_store
from bob.tracking.login import access_of
from tests.conftest import suite_of
from tests.store_parts import running_server, runs_of
from tests.unruly_proxy import Proxy

PASSWORD = "p@ss:w/rd%1 ü"
BASIC = f"Basic {b64encode(f'alice:{PASSWORD}'.encode()).decode()}"
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LOGIN:
        monkeypatch.delenv(name, raising=False)


def assert_secret(text: str) -> None:
    """No form of the password is in a text."""
    for form in (PASSWORD, quote(PASSWORD, safe=""), quote_plus(PASSWORD), BASIC.split()[1]):
        assert form not in text, text
    for part in ("w/rd", "w%2Frd"):
        assert part not in text, text


@pytest.mark.parametrize(
    "text",
    [
        "http://alice:s3/cr@t:x@host:5000/path",
        "to http://alice:s3cr3t@host, then",
        "postgresql+psycopg2://alice:s3cr3t@host/db?sslmode=require",
        "postgresql://host/db?user=alice&password=s3cr3t&x=1",
        "https://s3cr3t:@host",
        "{'Authorization': 'Bearer s3cr3t'}",
        "failed: 'http://alice:s3cr3t%40@host:5000' (http://bob:s3cr3t@host)",
    ],
)
def test_secrets_of_any_text_are_left_out(text: str) -> None:
    for shown in (
        redacted(text), line(text), block(text), str(BobError(text)), repr(BobError(text)),
        str(pickle.loads(pickle.dumps(Failure("error", text, text)))),
    ):  # fmt: skip
        assert "s3" not in shown
        assert "cr@t" not in shown
        assert "***" in shown
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/#/experiments/1", "http://127.0.0.1:5000/a@b", "sqlite:////a:b@c/x.db",
        "http://[::1]:5000/a@b", "hf_hub:timm/resnet50_a1_in1k", "alice@host: 3",
        "http://alice@host:5000", "databricks", "ratio 3:4@5", "lr=0.1&token",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text
    assert without_password(text) == text


@pytest.mark.parametrize("name", LOGIN[1:])
def test_the_secrets_of_the_environment_are_left_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, PASSWORD)
    assert_secret(line(f"sent {PASSWORD} and {quote(PASSWORD, safe='')}"))


@pytest.mark.parametrize("before", ["hf_", "ghp_", "ghs_", "github_pat_11AB_"])
def test_tokens_of_hubs_are_left_out(before: str) -> None:
    token = before + "aB3" * 12
    for text in (f"https://{token}@github.com/x/y", f"{{'token': '{token}'}}", f"TOKEN={token}"):
        assert "aB3" not in redacted(text)
        assert redacted(text).count("***") == 1


def test_a_password_that_is_a_word_is_left_out_and_spoils_no_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(LOGIN[1], "finetune")
    assert redacted("pytest test_x.py::test_finetune") == "pytest test_x.py::test_finetune"
    assert redacted("login with 'finetune' refused") == "login with '***' refused"


def test_the_header_of_a_login_in_a_uri_is_left_out_wherever_it_stands() -> None:
    access_of("http://bertha:s3cr3t%2099@host:5000")
    header = b64encode(b"bertha:s3cr3t 99").decode()
    assert header not in redacted(f"sent {header} to host")


def test_what_a_store_is_told_and_what_is_shown() -> None:
    encoded = quote(PASSWORD, safe="")
    for password in (encoded, PASSWORD.replace("%", "%25")):  # encoded, and as it is
        server = resolve_store(Path("/x"), f"http://alice:{password}@host:5000")
        assert server.uri == "http://alice@host:5000"
        assert server.address == "http://host:5000"
        assert dict(server.variables) == dict(zip(LOGIN, ("alice", PASSWORD), strict=False))
        database = resolve_store(Path("/x"), f"postgresql://alice:{password}@host/db")
        assert database.uri == "postgresql://alice@host/db"
        assert database.address == f"postgresql://alice:{encoded}@host/db"
        assert_secret(f"{server} {server!r} {database}")
    local = resolve_store(Path("/x"), "")
    assert local.uri == local.address == "sqlite:////x/mlruns/mlflow.db"


def test_the_repeat_command_has_the_user_and_says_where_the_password_belongs(
    project: pytest.Pytester,
) -> None:
    for scheme, variable in (("http", LOGIN[1]), ("postgresql", "PGPASSWORD")):
        uri = f"{scheme}://alice:{quote(PASSWORD, safe='')}@host/db"
        for words in ([f"--tracking-uri={uri}"], ["-o", f"bob_tracking_uri={uri}"]):
            config = project.parseconfig(*words)
            assert_secret(" ".join(repeated_words(config)))
            assert f"{scheme}://alice@host/db" in " ".join(repeated_words(config))
            assert variable in left_out(config)
    assert left_out(project.parseconfig("--tracking-uri=http://alice@host")) == ""


def test_a_database_that_cannot_be_opened(project: pytest.Pytester) -> None:
    for scheme in ("postgresql", "mysql+pymysql"):
        uri = f"{scheme}://alice:{quote(PASSWORD, safe='')}@127.0.0.1:1/db"
        result = project.runpytest("-k", "coarse", f"--tracking-uri={uri}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        told = result.stderr.str()
        assert f"ERROR: Cannot record to {scheme}://alice@127.0.0.1:1/db" in told
        assert_secret(told + result.stdout.str())


def test_a_server_that_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"http://alice:{quote(PASSWORD, safe='')}@127.0.0.1:1"
    with pytest.raises(BobError, match=r"http://alice@127.0.0.1:1 does not answer \(.*refused"):
        check_reachable(Destination(uri, None, tmp_path))
    assert main(["doctor", f"--tracking-uri={uri}"]) == 1
    assert_secret("".join(capsys.readouterr()))


@pytest.fixture(scope="module")
def guarded(shared_store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A real server behind a real demand for a login."""
    folder = tmp_path_factory.mktemp("server")
    template = Path(shared_store.removeprefix("sqlite:///")).with_name("empty.db")
    (folder / "server.db").write_bytes(template.read_bytes())
    with running_server(folder) as (uri, _):
        made = Proxy(int(uri.rpartition(":")[2]))
        made.wanted = BASIC
        yield made
        made.stop()


@pytest.fixture
def address(guarded: Proxy) -> Iterator[str]:
    """Host and port of the proxy."""
    guarded.wanted = BASIC
    yield guarded.uri.removeprefix("http://")
    guarded.wanted = BASIC


def everything_under(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "\n".join(path.read_bytes().decode(errors="replace") for path in files)


@pytest.mark.slow
def test_a_login_in_the_address_is_used_and_kept_secret(
    project: pytest.Pytester, guarded: Proxy, address: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A session that fails, its repeat command, ``bob sync`` and what they leave behind."""
    uri = f"http://alice:{quote(PASSWORD, safe='')}@{address}"
    words = ("-k", "coarse", "--require-bands", "--junitxml=bob.xml", f"--tracking-uri={uri}")
    result = project.runpytest(*words)
    result.assert_outcomes(failed=1, deselected=1)
    assert_secret(result.stdout.str() + result.stderr.str())
    assert_secret(everything_under(project.path))
    assert "not recorded in MLflow" not in result.stdout.str()
    direct = f"http://127.0.0.1:{guarded.port}"
    (run,) = runs_of(direct)
    assert run.info.status == "FINISHED"
    assert_secret(str(run.to_dictionary()))
    (repeat,) = [line for line in result.outlines if line.startswith("  repeat ")]
    assert f"--tracking-uri=http://alice@{address}" in repeat
    result.stdout.fnmatch_lines(["  repeat *", "*(its password belongs into MLFLOW_TRACKING_*)"])
    again = shlex.split(repeat.removeprefix("  repeat "))[1:]
    result = project.runpytest(*again)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"The tracking server http://alice@{address} refuses the login" in result.stderr.str()
    monkeypatch.setenv(LOGIN[1], PASSWORD)
    result = project.runpytest(*again)
    result.assert_outcomes(failed=1)
    assert_secret(result.stdout.str() + result.stderr.str())
    assert len(runs_of(direct)) == 2
    monkeypatch.delenv(LOGIN[1])
    monkeypatch.chdir(project.path)
    capsys.readouterr()
    assert main(["sync", f"--tracking-uri={uri}"]) == 0
    assert main(["profile", "--from", "mlflow", "--scale", "smoke", f"--tracking-uri={uri}"]) == 2
    told = "".join(capsys.readouterr())
    assert f"sent to http://alice@{address}" in told
    assert_secret(told)


@pytest.mark.slow
def test_mlflows_own_ways_of_logging_in(
    guarded: Proxy, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bob.tracking.writer import Writer

    store = resolve_store(tmp_path, f"http://{address}")
    with pytest.raises(BobError, match=r"refuses the login, or wants one \(401\).*_TOKEN\.$"):
        check_reachable(store)
    with pytest.raises(BobError, match="refuses the login") as caught:
        check_reachable(resolve_store(tmp_path, f"http://alice:wr0ngsecret@{address}"))
    assert "wr0ngsecret" not in str(caught.value)
    monkeypatch.setenv(LOGIN[0], "alice")
    monkeypatch.setenv(LOGIN[1], PASSWORD)
    check_reachable(store)
    assert Writer(store).named("") is not None
    for name in LOGIN[:2]:
        monkeypatch.delenv(name)
    guarded.wanted = "Bearer t0ken-of-alice"
    monkeypatch.setenv(LOGIN[2], "t0ken-of-alice")
    check_reachable(store)
    assert Writer(store).named("") is not None


@pytest.mark.slow
def test_an_error_of_a_backbone_that_names_an_address(project: pytest.Pytester) -> None:
    """What a user's code raises is kept in the ledger, shown, and sent."""
    uri = f"http://alice:{quote(PASSWORD, safe='')}@host"
    project.makepyfile(
        test_suite=suite_of("finetune"),
        net="import os\n\ndef make():\n    raise RuntimeError('no ' + os.environ['HUB'])\n",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUB", uri)
        result = project.runpytest("--backbone=net:make", "--junitxml=bob.xml")
    result.assert_outcomes(failed=1)
    assert "http://alice:***@host" in result.stdout.str()
    assert_secret(result.stdout.str() + everything_under(project.path))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:p@ss/w0rd@127.0.0.1:9", "http://me@127.0.0.1:9"),
        ("http://aa:b@cc/w0rd@host:5/x", "http://aa@host:5/x"),
        ("https://me:p@ss/w0rd#x@host", "https://me@host"),
        ("postgresql://u:a@b/c@db.org:5432/n?user=x@y", "postgresql://u@db.org:5432/n?user=x@y"),
        ("http://me:pw@host:1/a", "http://me@host:1/a"),
    ],
)
def test_a_password_may_hold_what_parts_a_uri(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


def test_what_follows_a_password_in_a_sentence_stays() -> None:
    text = "mysql://h/d?password=geheim: ModuleNotFoundError"
    assert redacted(text) == "mysql://h/d?password=***: ModuleNotFoundError"


SECRETS = (
    "https://alice:s3cr3t@host/w.pth", "https://s3cr3t:@host/w.pth", "https://host/w.pth?sig=s3cr3t",
    "https://host/w.pth?a=1&X-Amz-Signature=s3cr3t", "https://host/w.pth?private_token=s3cr3t",
    "https://host/w.pth?key=s3cr3t",
    "https://host/w.pth?X-Goog-Credential=s3cr3t&b=2", "https://host/w.pth?api-key=s3cr3t",
)  # fmt: skip
USER_ALONE = "https://s3cr3t@host/w.pth"
"""In the address of a store it is a name; some hosts take a token there."""


@pytest.mark.parametrize("address", [*SECRETS, USER_ALONE])
def test_an_address_with_a_secret_is_no_place_of_weights_or_data(address: str) -> None:
    """What a catalog says is kept with every result."""
    for make in (
        lambda: Weights(url=address),
        lambda: RemoteFile(urls=(address,), gives="a"),
        lambda: RemoteFile(urls=("https://host/a",), md5_url=address, gives="a"),
    ):
        with pytest.raises(ValidationError, match=r"put a login into ~/\.netrc"):
            make()
    assert address == USER_ALONE or "s3cr3t" not in redacted(f"of {address}, then")
    for fine in ("https://host/w.pth?download=true", "https://host/get?key=nets/w.pth"):
        assert Weights(url=fine).url == redacted(fine) == fine


@pytest.mark.parametrize("address", [SECRETS[0], USER_ALONE])
def test_a_catalog_with_a_secret_is_refused_without_telling_it(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "backbones:\n  mine:\n    source: timm:resnet18\n    family: resnet\n"
        f"    pretraining: x\n    weights: {{url: '{address}'}}\n"
    )
    assert main(["list", "backbones", f"--catalog={path}"]) == 2
    error = capsys.readouterr().err
    assert "own.yaml:6" in error
    assert "~/.netrc" in error
    assert "s3cr3t" not in error
