"""Somebody's own batch: read, judged, drawn, and written as a report."""

import json
import os
import random
import re
from html.parser import HTMLParser

import pytest
import torch
from batch_writers import EOS, PAD, VOCABULARY, WRITERS, conversations, counted

from sftviz import Finding, Inspection, inspect_batch
from sftviz.__main__ import main
from sftviz.inspection.examples import HEALTHY, PUZZLES, TOKENS

BATCHES = int(os.environ.get("BATCHES", "100"))  # of each format; the weekly run has 1000
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1}
LEFT_OUT = 160  # columns of prompt
WRONG = {
    "A": ("the end token never counts", (0, 10)),
    "B": ("padding counts", (1, 8)),
    "C": ("labels are shifted twice", None),
    "D": ("left padding without an attention mask", (1, 0)),
    "E": ("a document is predicted from its neighbour", (0, 11)),
}


@pytest.fixture
def long() -> Inspection:
    """2 × 188 tokens, of which the last 27 count; a NaN is among them."""
    ids = torch.arange(2 * 189).view(2, 189) + 10
    labels = ids.where(torch.arange(189) > LEFT_OUT + 1, -100)
    log_probs = -(torch.arange(2 * 188).view(2, 188) % 7 + 1) / 2.0
    log_probs[1, 167] = torch.nan
    log_probs.requires_grad_()
    return inspect_batch({"input_ids": ids, "labels": labels}, log_probs=log_probs)


def names(inspection: Inspection) -> list[str]:
    return [finding.name for finding in inspection.findings]


def test_a_healthy_batch_has_no_finding_and_shows_what_counts():
    inspection = inspect_batch(HEALTHY, TOKENS, **SPECIAL)
    assert inspection.ok and inspection.findings == ()
    assert inspection.num_tokens == 11 == int((HEALTHY["labels"] != -100).sum())
    # Column c reads token c and predicts token c + 1.
    assert inspection.tokens.tolist() == HEALTHY["input_ids"][:, :-1].tolist()
    assert inspection.response_mask.tolist() == (HEALTHY["labels"][:, 1:] != -100).tolist()
    assert "Nothing wrong was found." in str(inspection) and "␣scatters" in str(inspection)


@pytest.mark.parametrize("puzzle", PUZZLES)
def test_each_puzzle_is_wrong_in_one_way(puzzle):
    inspection = inspect_batch(PUZZLES[puzzle], TOKENS, **SPECIAL)
    (finding,) = inspection.findings
    name, place = WRONG[puzzle]
    assert finding.name == name and next(iter(finding.places), None) == place
    assert name in str(inspection) and finding.remedy.split()[0] in str(inspection)
    assert f"{finding.severity}: {name}" in inspection.drawing.alt


def test_of_a_long_batch_what_counts_is_shown_and_a_nan_is_under_the_lens(long):
    assert names(long) == ["a NaN counts"] and not long.ok
    assert long.findings[0].places == ((1, 167),) and "row 2, token 168" in str(long)
    keys = long.drawing.keys
    assert "policy_log_probs[1,167]" in keys and "response_mask[0,168]" in keys
    assert "policy_log_probs[0,0]" not in keys
    drawn = str(long).splitlines()
    (line,) = [line for line in drawn if line.startswith("│ finding")]
    (above,) = [line for line in drawn if " nan" in line and "log-prob" in line]
    assert line.index("1") == above.index("nan") + 2  # below it


def test_the_tables_can_be_put_anywhere(long):
    assert "labels[0,3]" in long.draw(80, columns=3).keys
    with pytest.raises(ValueError, match="columns must be from 0 to 187, got 188"):
        long.draw(80, columns=188)
    with pytest.raises(ValueError, match="width must be at least 48 cells, got 12"):
        long.draw(12)


def test_logits_give_the_log_probs_of_the_labels():
    torch.manual_seed(0)
    ids = torch.randint(2, 9, (3, 6))
    labels = ids.where(torch.arange(6) > 2, -100)
    logits = torch.randn(3, 6, 9, dtype=torch.float64, requires_grad=True)
    inspection = inspect_batch({"input_ids": ids, "labels": labels}, logits=logits)
    expected = logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(inspection.log_probs, expected.detach())
    # The same as cross_entropy, which shifts nothing itself.
    total = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
    )
    counted = inspection.log_probs[inspection.response_mask]
    torch.testing.assert_close(-counted.sum(), total.detach())


def test_the_arguments_of_the_step_are_a_format_too():
    log_probs = torch.full((3, 4), -0.5, requires_grad=True)
    mask = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    batch = {"policy_log_probs": log_probs, "response_mask": mask}
    batch |= {"gradient_accumulation_steps": 3}
    inspection = inspect_batch(batch)
    assert inspection.findings == () and inspection.num_tokens == 6  # B = G
    assert inspection.gradient_accumulation_steps == 3
    assert names(inspect_batch(batch, gradient_accumulation_steps=2)) == ["÷G² is not the mean"]
    detached = batch | {"policy_log_probs": log_probs.detach()}
    assert names(inspect_batch(detached)) == ["requires_grad is missing"]
    assert inspect_batch(detached, needs_grad=False).ok
    log_probs.sum().backward()  # a gradient that was not zeroed
    assert names(inspect_batch(batch)) == ["the gradient is not −1/(G²·c)"]


def test_of_a_window_the_shares_are_shown():
    short, long = ({"input_ids": torch.arange(2, 2 + n)[None]} for n in (6, 26))
    for batch in (short, long):
        ids = batch["input_ids"]
        batch["labels"] = ids.where(torch.arange(ids.shape[1]) > 3, -100)
    inspection = inspect_batch(short, window=[short, long])
    assert names(inspection) == ["uneven windows"] and inspection.ok
    assert "averaged averages" in str(inspection)
    shares = inspection.shares("averaged averages").per_token
    assert torch.cat(shares).tolist() == pytest.approx([1 / 2 / 2, 1 / 2 / 22], abs=1e-12)


def test_what_is_meant_to_be_so_can_be_accepted():
    ids = HEALTHY["input_ids"]
    batch = {"input_ids": ids, "labels": ids.where(HEALTHY["attention_mask"] == 1, -100)}
    assert names(inspect_batch(batch, **SPECIAL)) == ["the prompt counts"]
    assert inspect_batch(batch, accept=["the prompt counts"], **SPECIAL).findings == ()


def test_what_could_not_be_checked_is_said():
    said = "Not checked: whether responses end with an end token"
    assert said in str(inspect_batch(HEALTHY))
    assert said not in str(inspect_batch(HEALTHY, **SPECIAL))


def test_an_end_token_that_is_not_the_tokenizers_is_recognised():
    """Answers end in <end>, but eos and padding are another token."""
    batch = {"input_ids": HEALTHY["input_ids"], "labels": HEALTHY["labels"]}
    assert inspect_batch(batch, pad_token_id=0, eos_token_id=0).findings == ()


def test_nothing_that_is_given_is_changed():
    batch = {name: tensor.clone() for name, tensor in HEALTHY.items()}
    log_probs = torch.full((3, 11), -0.5, dtype=torch.float64, requires_grad=True)
    inspection = inspect_batch(batch, TOKENS, log_probs=log_probs, gradient_accumulation_steps=2)
    str(inspection)
    assert log_probs.grad is None
    assert all(torch.equal(batch[name], HEALTHY[name]) for name in HEALTHY)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"log_probs": torch.zeros(3, 5)},
            "log_probs has shape (3, 5), but the batch has 3 rows and 11 columns with a label: "
            "give one entry for each of these, or for each token.",
        ),
        (
            {"logits": torch.zeros(3, 12)},
            "logits has shape (1, 3, 12), but the batch has 3 rows and 11 columns with a label: "
            "give one entry for each of these, or for each token.",
        ),
        (
            {"log_probs": torch.zeros(3, 11, dtype=torch.int64)},
            "log_probs must be floating point, got torch.int64: pass log-probabilities, not token "
            "ids.",
        ),
        (
            {"gradient_accumulation_steps": 0},
            "gradient_accumulation_steps must be an int of at least 1, got 0: it is the number of "
            "microbatches.",
        ),
        (
            {"tokenizer": 5},
            "tokenizer must have one of the methods convert_ids_to_tokens, id_to_token, "
            "id_to_piece, IdToPiece, decode_single_token_bytes, decode, or be a sequence or "
            "dictionary of strings, got int: pass the tokenizer itself.",
        ),
        ({"window": 5}, "window must be a list, got int 5."),
        ({"accept": "a row"}, "accept must be a list, got str 'a row'."),
        ({"shifted": "yes"}, "shifted must be True, False or None, got 'yes'."),
        ({"pad_token_id": "0"}, "pad_token_id must be an int or None, got '0'."),
        ({"eos_token_id": 2.0}, "eos_token_id must be an int or None, got 2.0."),
        (
            {"normalize_constant": -1},
            "normalize_constant must be a finite number above 0, got -1: it divides the masked "
            "sum.",
        ),
    ],
)
def test_what_does_not_fit_gets_a_sentence(given, said):
    with pytest.raises((TypeError, ValueError)) as caught:
        inspect_batch(HEALTHY, **given)
    assert str(caught.value) == said


@pytest.mark.parametrize(("name", "said"), [("a.md", "'.md'"), ("a", "a file without ending")])
def test_a_report_with_another_ending_is_refused(tmp_path, name, said):
    with pytest.raises(ValueError) as caught:
        inspect_batch(HEALTHY).save(tmp_path / name)
    assert str(caught.value) == (
        f"an inspection can't be saved as {said}: "
        "give a path that ends in .html, .svg, .png, .pdf or .txt."
    )
    assert not (tmp_path / name).exists()


def test_redacted_nothing_of_the_text_is_left(tmp_path):
    secret = ["<pad>", "<end>", *(f"secret{i}" for i in range(2, len(TOKENS)))]
    batch = {"input_ids": HEALTHY["input_ids"] + 7000, "labels": HEALTHY["labels"]}
    batch["labels"] = batch["labels"].where(batch["labels"] < 0, batch["labels"] + 7000)
    batch["labels"][0, 9] = 7005  # not the next token
    mask = batch["labels"] != -100
    inspection = inspect_batch(
        batch, {i + 7000: text for i, text in enumerate(secret)}, redact=True
    )
    assert inspection.tokens is None and inspection.labels is None and inspection.num_tokens == 11
    (finding,) = inspection.findings
    assert (finding.name, finding.places) == ("a label is not the next token", ((0, 8),))
    said = [str(inspection), repr(inspection.findings), inspection.drawing.alt]
    said.append(json.dumps(inspection.as_dict()))
    said.append(inspection.save(tmp_path / "report.html").read_text("utf-8"))
    # Here the id of padding is ignored, so it is in the evidence.
    by_id = {"input_ids": batch["input_ids"], "labels": batch["labels"].where(mask, 7000)}
    assert "7000" in str(inspect_batch(by_id))
    said.append(json.dumps(inspect_batch(by_id, redact=True).as_dict()))
    assert not any("secret" in text or re.search(r"\b7\d\d\d\b", text) for text in said)


def test_redacted_an_ignored_id_and_weights_are_left_out():
    ids = HEALTHY["input_ids"] + 7000
    labels = ids.where(HEALTHY["labels"] >= 0, 7000)  # the padding id is ignored
    weighted = {"inputs": ids, "targets": ids.roll(-1, 1), "weights": (labels != 7000) * 0.7123}
    given = {"input_ids": ids, "labels": labels}
    inspection = inspect_batch(given, pad_token_id=7000, window=[weighted], redact=True)
    assert inspection.format.startswith("input_ids with labels of a token id, not shifted")
    assert not re.search(r"\b7\d\d\d\b", str(inspection))
    (window,) = inspection.window
    assert set(window.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "given", [{"secret": [1]}, {"input_ids": "secret"}, {"input_ids": [[1, 2], ["secret", 2]]}]
)
def test_redacted_an_error_quotes_nothing(given, tmp_path, capsys):
    with pytest.raises((TypeError, ValueError)) as caught:
        inspect_batch(given, redact=True)
    assert str(caught.value) == (
        "the batch can't be read, and redact=True hides what is wrong in it: inspect it without "
        "that where its content may be seen."
    )
    (path := tmp_path / "batch.json").write_text(json.dumps(given))
    assert main(["inspect", str(path), "--redact"]) == 2
    assert "secret" not in capsys.readouterr().err


class Page(HTMLParser):
    """The tags of a page and all that they would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.loads, self.text = set(), [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text += data


def test_the_report_is_one_file_that_loads_nothing(tmp_path, hostile):
    words = [word for row in hostile for word in row]
    ids = torch.arange(len(words))[None]
    labels = ids.where(ids > 4, -100)
    inspection = inspect_batch({"input_ids": ids, "labels": labels}, words)
    text = inspection.save(tmp_path / "report.html").read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags and page.loads == [] and "url(" not in text
    assert "default-src 'none'" in text
    assert "a&b" in page.text and "<script>alert" not in text
    assert inspection.format in page.text


def test_a_report_of_64_by_1024_tokens_is_below_2_mb(tmp_path):
    torch.manual_seed(0)
    ids = torch.randint(10, 50_000, (64, 1024))
    labels = ids.where(torch.arange(1024) > 500, -100)
    words = [f" word{i}" for i in range(50_000)]
    inspection = inspect_batch({"input_ids": ids, "labels": labels}, words)
    path = inspection.save(tmp_path / "report.html")
    assert path.stat().st_size < 2e6
    assert Page(path.read_text("utf-8")).text.count("␣word") > 64 * 1000


def test_it_is_a_picture_in_a_notebook(long, tmp_path):
    data = long._repr_mimebundle_()
    assert data["text/plain"] == str(long) and '<img alt="A batch of 2 rows' in data["text/html"]
    for ending in (".svg", ".png", ".txt"):
        assert long.save(tmp_path / f"inspection{ending}").stat().st_size > 1000


def run(capsys, *words):
    status = main(["inspect", *map(str, words)])
    return status, *capsys.readouterr()


def test_the_command_judges_a_file(tmp_path, capsys):
    healthy, wrong = tmp_path / "healthy.pt", tmp_path / "wrong.json"
    torch.save(dict(HEALTHY), healthy)
    wrong.write_text(json.dumps({name: rows.tolist() for name, rows in PUZZLES["B"].items()}))
    status, out, err = run(capsys, healthy)
    assert (status, err) == (0, "") and "Nothing wrong was found." in out
    status, out, err = run(capsys, wrong, "--json")
    assert (status, err) == (1, "")
    (finding,) = json.loads(out)["findings"]
    assert finding["name"] == "padding counts" and finding["places"][0] == [1, 8]


def test_the_command_writes_a_report_with_the_text_of_a_tokenizer(tmp_path, capsys):
    vocab = {"model": {"vocab": {text: index for index, text in enumerate(TOKENS)}}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(vocab))
    config = {"pad_token": "<pad>", "eos_token": "<end>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    torch.save(dict(PUZZLES["A"]), tmp_path / "a.pt")
    report = tmp_path / "report.html"
    words = (tmp_path / "a.pt", "--tokenizer", tmp_path, "--save", report)
    status, out, err = run(capsys, *words)
    assert status == 1 and "the end token never counts" in out  # the folder says which one it is
    assert err == f"sftviz: {report} was written.\n" and "␣scatters" in report.read_text("utf-8")


def test_log_probs_in_a_file_need_no_graph_and_notes_are_not_faults(tmp_path, capsys):
    path = tmp_path / "step.json"
    batch = {"policy_log_probs": [[-1.0, -2.0]], "response_mask": [[0, 1]]}
    path.write_text(json.dumps(batch))
    status, out, _ = run(capsys, path, "-G", 2)
    assert status == 0 and "note: ÷G² is not the mean" in out


@pytest.mark.parametrize("content", ["[]", "{", '{"a": 1}', '"text"', '{"input_ids": [[1, "x"]]}'])
def test_the_command_says_in_one_line_what_cant_be_read(tmp_path, capsys, content):
    path = tmp_path / "batch.json"
    path.write_text(content)
    status, out, err = run(capsys, path)
    assert (status, out) == (2, "") and err.startswith("sftviz: ") and err.count("\n") == 1


def test_a_finding_can_be_made_and_compared():
    finding = Finding("x", "note", "message", "remedy", ((0, 1),))
    assert finding == Finding("x", "note", "message", "remedy", ((0, 1),))


@pytest.mark.parametrize("writer", WRITERS)
def test_a_healthy_batch_of_any_format_has_no_finding(writer):
    for seed in range(BATCHES):
        given = conversations(random.Random(seed))
        special = {"pad_token_id": PAD, "eos_token_id": EOS, "vocab_size": VOCABULARY}
        inspection = inspect_batch(
            WRITERS[writer](given), needs_grad=False, **(special if seed % 2 else {})
        )
        found = [finding for finding in inspection.findings if finding.severity != "note"]
        assert found == [], seed
        assert writer == "token_batch" or inspection.num_tokens == len(counted(given))
