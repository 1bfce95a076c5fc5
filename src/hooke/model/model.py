"""`Model`: an unmodified transformers model, its tokenizer and its family row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hooke.arguments import argument, shown
from hooke.errors import HookeError
from hooke.model import state
from hooke.model.chat import chat_text
from hooke.model.checks import proved
from hooke.model.edits import SQUARE, Edit, edit_sets_in, edits_in
from hooke.model.families import Parts, find_parts
from hooke.model.hooks import sites_of
from hooke.model.prompts import ids_of, is_chat, texts_of
from hooke.model.recorded import Recorded, record
from hooke.model.run import (
    Activations,
    Plan,
    Prefix,
    Run,
    Start,
    Tap,
    Tokens,
    again,
    check_start,
    choose,
    forward,
)
from hooke.model.run_each import run_each
from hooke.model.spelling import Spelling, encode, whole
from hooke.sites import Site, sites_in

Text = str | Sequence[str]
# a text or several, `Tokens`, or anything that `model/prompts.py` reads as token ids
Prompt = Text | Tensor | Tokens | Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Any] | Any


class Step(NamedTuple):
    """One step of generation: the tokens chosen (batch), their logits (batch d_vocab), this step's reads."""

    tokens: Tensor
    logits: Tensor
    acts: Activations


class Generation(NamedTuple):
    """Generated ids (batch new), texts if there is a tokenizer, logits (batch new d_vocab), reads over all tokens."""

    tokens: Tensor
    texts: list[str]
    logits: Tensor
    acts: Activations


class Model:
    """A transformers model that can be read and edited at sites. Make one with `hooke.load`.

    hf: the model. Hooks and evaluation mode are there only during a run; after it everything is as it was.
    parts: where its pieces are (sizes as `parts.n_layers`, `parts.d_model`, …).
    info: name, weights hash and other facts that results record.
    """

    def __init__(self, hf: nn.Module, tokenizer: Any, *, name: str, info: dict[str, Any] | None = None) -> None:
        self.hf = hf
        self.tokenizer = tokenizer
        self.name = name
        self.parts: Parts = find_parts(hf)
        self.info = info or {}
        self._spelled: Spelling | None = None
        self._turn = state.turn_of(hf)
        self._loaded = state.loaded(hf)
        self._settings = state.settings_of(hf)
        self.proven = state.hung_on(state.modules_of(hf))  # what hung on the model when its equations were proved
        named = self.info.get("weights_sha256") or self.info.get("revision")
        # the mark of the weights that a name stands for, and the name
        self._named = (state.stamp(hf, self.parts.rotary.modules), str(named)) if named else None
        self._hashed: tuple[str, str] | None = None  # a mark of weights in memory, and their hash

    @property
    def device(self) -> torch.device:
        return next(self.hf.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.hf.parameters()).dtype

    @property
    def sites(self) -> list[Site]:
        """Every site that this model has, in the order of the forward pass."""
        return sites_of(self.parts)

    @contextmanager
    def held(self, *, grad: bool = False) -> Iterator[None]:
        """The model for the length of a run: nobody else's turn, in evaluation mode, and put back afterwards.

        grad: derivatives are of values, never of weights. Raises HookeError if the model was taken apart or its
        configuration changed since it was loaded, because what Hooke knows of it is then wrong.
        """
        with self._turn.lock:
            modules = list(state.modules_of(self.hf))
            state.refuse_changed(self.hf, self.name, self._loaded)
            first = not self._turn.depth
            self._turn.depth += 1
            try:
                with state.evaluating(modules, grad=grad), proved(self, modules) if first else nullcontext():
                    yield
            finally:
                self._turn.depth -= 1

    def provenance(self) -> dict[str, Any]:
        """What a result must record about this model: hashes of the weights as they are now, type, versions."""
        import transformers

        from hooke import __version__

        template = getattr(self.tokenizer, "chat_template", None)
        return {
            "model": self.name,
            **self.info,
            **self._weights(),
            **({"hooks": hooks} if (hooks := state.hung_names(self.hf)) else {}),
            "family": self.parts.family.name,
            "dtype": str(self.dtype).removeprefix("torch."),
            "device": str(self.device),
            "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest()
            if isinstance(template, str)
            else None,
            "versions": {
                "hooke": __version__,
                "torch": str(torch.__version__),
                "transformers": str(transformers.__version__),
            },
        }

    def weights_hash(self) -> str:
        """Identifies the weights as they are now: the hash of what was loaded, or, where there was no file or they
        have changed since, of the parameters in memory."""
        with self._turn.lock:
            passing = self.parts.rotary.modules
            mark = state.stamp(self.hf, passing)
            if self._named is not None and self._named[0] == mark:
                return self._named[1]
            if self._hashed is None or self._hashed[0] != mark:
                self._hashed = (mark, state.memory_hash(self.hf, self._settings, passing))
            return self._hashed[1]

    def _weights(self) -> dict[str, Any]:
        """What identifies the weights, if not what they were loaded with."""
        found = self.weights_hash()
        if self._named is None:
            return {"weights_sha256": found}
        return {} if found == self._named[1] else {"weights_sha256": found, "loaded_weights": self._named[1]}

    def tokens(self, text: Prompt, *, padding: Literal["left", "right"] = "left") -> Tokens:
        """Token ids and mask of one or several prompts.

        text: plain prompts, tokenised exactly as `tokenizer(prompt)`; token ids (pos, or batch pos) as lists, arrays or
            tensors, or what a tokenizer returned, with its attention mask; `Tokens`; an `Asked` question; or chat
            messages. What stands in the padding may be anything.
        Raises HookeError for an empty prompt, one longer than the model's context, ids outside the vocabulary, or a
        mask that does not fit.
        """
        if not isinstance(padding, str) or padding not in ("left", "right"):
            raise HookeError(f"padding stands on the left or the right, not {shown(padding)}")
        text = getattr(text, "tokens", None) if isinstance(getattr(text, "tokens", None), Tokens) else text
        if is_chat(text):
            return self.chat(text)  # type: ignore[arg-type]
        texts = texts_of(text)
        if texts is None:
            held = ids_of(text, lambda rows: self.pad(rows, padding))
            return self._checked(Tokens(held.ids.to(self.device), held.mask.to(self.device)))
        rows = [self._tokenizer()(_unicode(t))["input_ids"] if t else [] for t in texts]
        return self._checked(self.pad(rows, padding))

    def one(self, prompt: Prompt, verb: str = "this") -> Tokens:
        """`tokens` of a single prompt, without its padding. Raises HookeError, naming the verb, for several."""
        found = self.tokens(prompt)
        if found.ids.shape[0] != 1:
            raise HookeError(f"{verb} one prompt at a time, and {found.ids.shape[0]} are given")
        return found if bool(found.mask.all()) else found.alone(0)

    def chat(self, question: str | Sequence[Mapping[str, str]], *, system: str | None = None) -> Tokens:
        """The tokens of a chat prompt: the model's template with the generation prompt, no special tokens added.

        question: what the user says, or messages with role and content. system: a message before it.
        Raises HookeError for an empty question, and for a template that refuses a role or leaves a message out.
        """
        text = chat_text(self._tokenizer(), self.name, question, system)
        return self._checked(self.pad([encode(self.tokenizer, text)], "left"))

    def token(self, token: str | int) -> int:
        """The id of a token: of its text with the leading space, as any page or line of Hooke shows it, or the id
        itself. Raises HookeError, with the choices, for a text that is no token, several, or may mean several."""
        if isinstance(token, str):
            found = self._spelling().typed(_unicode(token))
        else:
            found = argument("a token", token, str | int)
        if not 0 <= found < self.parts.d_vocab:
            last = self.parts.d_vocab - 1
            raise HookeError(f"token id {found} is not in the vocabulary of {self.name}: ids lie between 0 and {last}")
        return found

    def text(self, ids: Tensor | Iterable[int]) -> list[str]:
        """Each token as a person sees it: no two alike, so that `token` finds it again. Bytes that are no whole
        character are spelled, <0xE2>; without a tokenizer a token is its number."""
        numbers = [int(i) for i in ids]
        return [str(i) for i in numbers] if self.tokenizer is None else [self._spelling().text(i) for i in numbers]

    def vocabulary(self) -> list[str]:
        """`text` of every id of the tokenizer, in order."""
        return list(self._spelling().shown)

    def said(self, ids: Tensor | Sequence[int], *, special: bool = True) -> str:
        """The text of a whole sequence. special: with its special tokens."""
        numbers = [int(i) for i in ids]
        return (
            " ".join(map(str, numbers)) if self.tokenizer is None else whole(self.tokenizer, numbers, special=special)
        )

    def parts_of(self, ids: Tensor | Sequence[int]) -> list[str]:
        """The text of a whole sequence cut at its tokens; half a character goes to the token that ends it."""
        return self._spelling().parts([int(i) for i in ids])

    def continued(self, text: str) -> list[int]:
        """The ids of a text that follows other text: no special tokens, and no space that it does not begin with."""
        return self._spelling().encode(_unicode(text))

    def single(self, text: str) -> int | None:
        """The id of the one token that a text out of data is where it follows other text; None if it is not one."""
        found = self._spelling().single(_unicode(text))
        return found if found is not None and found < self.parts.d_vocab else None

    def run(
        self,
        tokens: Prompt,
        *,
        read: Site | str | Iterable[Site | str] = (),
        edits: Edit | Sequence[Edit] = (),
        taps: Mapping[Site, Tap] | None = None,
        grad: bool = False,
        logits: Literal["all", "last"] | None = "all",
        after: Prefix | None = None,
        entering: tuple[int, Tensor] | None = None,
    ) -> Run:
        """Run the model once, reading and editing at sites.

        tokens: prompts, ids or `Tokens` (padding on either side).
        read: sites to return; values are after the edits there, and zero on padding.
        edits: interventions, applied in list order at each site.
        taps: by site, a function of the live value that gives what takes its place, after the edits there: for
            changes that depend on what else this run has computed (the edges of a circuit).
        grad: keep the graph, so that logits and reads can be differentiated (also through edits).
        logits: "all" (batch pos d_vocab), "last" (batch d_vocab, at the last real token), or None,
            which stops after the last read.
        after: what comes before these tokens in every row (`prefix`), so that it is run only once. Reads
            are of these tokens; an edit's named positions count from the start of the prefix, and an axis
            of positions of its value is theirs.
        entering: a layer and the stream that enters it here (batch pos d_model), as another model with the
            same weights below has read it: the blocks below are left out.
        Raises HookeError for a site that the model does not have or an edit that does not fit.
        """
        sites, edits, grad = sites_in(read), edits_in(edits), argument("grad", grad, bool)
        if taps is not None:
            taps = _taps(taps)
        if not isinstance(logits, str | None) or logits not in ("all", "last", None):
            raise HookeError(f"logits are 'all', 'last' or None, not {shown(logits)}")
        if after is not None and not isinstance(after, Prefix):
            raise HookeError(f"what comes before is a prefix from model.prefix, not {shown(after)}")
        with self.held(grad=grad):
            batch = self.tokens(tokens)
            check_start(self.hf, self.parts, batch, after, entering, sites, edits)
            plan = Plan(sites, edits, taps or {}, grad, logits)
            return forward(self.hf, self.parts, batch, plan, Start(after=after, entering=entering))[0]

    def prefix(self, tokens: Text | Tensor | Tokens) -> Prefix:
        """Run the beginning that several prompts share once; `run(…, after=prefix)` goes on from there."""
        with self.held():
            batch = self.tokens(tokens)
            if batch.ids.shape[0] != 1 or not bool(batch.mask.all()):
                raise HookeError("a prefix is one row of tokens without padding")
            _, cache = forward(self.hf, self.parts, batch, Plan(logits="last"), keep_cache=True)
            made = state.glance(self.hf, self.parts.rotary.modules)
            return Prefix(batch.ids, {self.parts.rotary.turns(batch.ids.shape[1]): cache}, made)

    def record(self, prompt: Prompt, *, read: Site | str | Iterable[Site | str] = ()) -> Recorded:
        """Run one prompt and keep what other runs of it can share, and reads, so that nobody runs it again."""
        return record(self, self.tokens(prompt), sites_in(read))

    def run_each(
        self,
        tokens: Prompt | Recorded,
        edit_sets: Sequence[Edit | Sequence[Edit]],
        *,
        read: Site | str | Iterable[Site | str] = (),
        logits: bool = True,
    ) -> tuple[Tensor, list[dict[Site, Tensor]]]:
        """Run one prompt once for each set of edits, computing only what the edits can change.

        tokens: one prompt without padding, or its run without edits, if it has been `record`ed. logits: whether they
        are wanted; else runs end where they are read last.
        Returns the last logits (n_sets, d_vocab; those without edits where none are wanted) and each set's reads
        (pos …); a site before a set's first edit is missing among them, because it has its clean value.
        """
        sets = edit_sets_in(edit_sets)
        with self.held(), torch.no_grad():
            base = tokens if isinstance(tokens, Recorded) else self.record(tokens)
            return run_each(self, base, sets, read=sites_in(read), logits=logits)

    def stream(
        self,
        tokens: Prompt,
        *,
        max_new_tokens: int = 64,
        read: Site | str | Iterable[Site | str] = (),
        edits: Edit | Sequence[Edit] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[Step]:
        """Generate step by step with the key-value cache; closing the iterator stops. Where the keys of a model
        depend on how long the sequence is, they are made again when it turns them otherwise.

        The first step's reads cover the prompt (with its padding on the left), each later one its new
        token. Rows that have ended go on with the end token; the iterator stops when all have.
        temperature 0 is greedy. Edits may name positions of the answer.
        Raises HookeError, at once, if prompt and answer would not fit the context.
        """
        max_new_tokens = argument("max_new_tokens", max_new_tokens, int)
        temperature, seed = float(argument("temperature", temperature, float)), argument("seed", seed, int)
        if max_new_tokens < 1:
            raise HookeError("max_new_tokens must be at least 1")
        if temperature < 0:
            raise HookeError("a temperature is 0, for the likeliest token, or more")
        sites, changes = sites_in(read), edits_in(edits)
        batch = self._left(self.tokens(tokens))
        longest = int(batch.mask.sum(1).max())
        if longest + max_new_tokens > self.parts.context:
            raise HookeError(
                f"{longest} prompt tokens and {max_new_tokens} new ones do not fit the context of {self.parts.context}"
            )
        return self._steps(batch, max_new_tokens, sites, changes, temperature, seed)

    def _steps(
        self, batch: Tokens, count: int, read: list[Site], edits: list[Edit], temperature: float, seed: int
    ) -> Iterator[Step]:
        generator = torch.Generator(device=self.device).manual_seed(seed)
        end = torch.tensor(self.end_ids(), dtype=torch.long, device=self.device)
        lengths = batch.mask.sum(1)
        done = torch.zeros(batch.ids.shape[0], dtype=torch.bool, device=self.device)
        past, past_mask, turned = None, None, None
        plan = Plan(read, edits, logits="last")
        prompt, answer = batch, batch.ids[:, :0]
        for step in range(count):
            whole = [length + step for length in lengths.tolist()] if self.parts.rotary.modules else []
            turns = [self.parts.rotary.turns(length) for length in whole]
            with self.held():
                start = Start(prompt_lengths=lengths, horizon=count)
                if past is not None and turns != turned:  # what is stored belongs to a shorter sequence
                    run, past = again(self.hf, self.parts, prompt, answer, plan, start._replace(whole=whole))
                else:
                    start = start._replace(past=past, past_mask=past_mask)
                    run, past = forward(self.hf, self.parts, batch, plan, start, keep_cache=True)
            turned = turns
            assert run.logits is not None
            chosen = choose(run.logits, temperature, generator)
            if len(end):
                chosen = torch.where(done, end[0], chosen)
                done = done | torch.isin(chosen, end)
            yield Step(chosen, run.logits, run.acts)
            if len(end) and bool(done.all()):
                return
            past_mask = batch.mask if past_mask is None else torch.cat([past_mask, batch.mask], 1)
            answer = torch.cat([answer, chosen[:, None]], 1)
            batch = Tokens(chosen[:, None], torch.ones_like(chosen[:, None], dtype=torch.bool))

    def generate(
        self,
        tokens: Prompt,
        *,
        max_new_tokens: int = 64,
        read: Site | str | Iterable[Site | str] = (),
        edits: Edit | Sequence[Edit] = (),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generation:
        """A loop over `stream`. Reads cover the prompt and all new tokens but the last (batch pos …), except
        scores and patterns, which are the prompt's own."""
        steps = list(
            self.stream(
                tokens, max_new_tokens=max_new_tokens, read=read, edits=edits, temperature=temperature, seed=seed
            )
        )
        ids = torch.stack([step.tokens for step in steps], 1)
        acts = Activations()
        for site in steps[0].acts:
            pieces = [step.acts[site] for step in steps]
            acts[site] = pieces[0] if site.point in SQUARE else torch.cat(pieces, 1)  # squares grow with the cache
        texts = (
            [whole(self.tokenizer, row.tolist(), special=False) for row in ids] if self.tokenizer is not None else []
        )
        return Generation(ids, texts, torch.stack([step.logits for step in steps], 1), acts)

    def _checked(self, tokens: Tokens) -> Tokens:
        lengths = tokens.mask.sum(1)
        if not tokens.ids.numel() or int(lengths.min()) == 0:
            raise HookeError("the prompt is empty; give it at least one token")
        if int(lengths.max()) > self.parts.context:
            raise HookeError(
                f"the prompt is {int(lengths.max())} tokens and the context of {self.name} is {self.parts.context}"
            )
        if int(tokens.ids.min()) < 0 or int(tokens.ids.max()) >= self.parts.d_vocab:
            raise HookeError(f"token ids must lie between 0 and {self.parts.d_vocab - 1}")
        return tokens

    def pad(self, rows: Sequence[Sequence[int]], padding: Literal["left", "right"] = "left") -> Tokens:
        """Rows of token ids as one batch; what stands in the padding is masked and changes nothing."""
        width = max(len(row) for row in rows)
        own = [getattr(self.tokenizer, "pad_token_id", None), *self.end_ids()]
        pad = next((i for i in own if i is not None and 0 <= i < self.parts.d_vocab), 0)  # any id will do
        ids = torch.full((len(rows), width), int(pad), dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            here = slice(width - len(row), width) if padding == "left" else slice(0, len(row))
            ids[i, here] = torch.tensor(list(row), dtype=torch.long)
            mask[i, here] = True
        return Tokens(ids.to(self.device), mask.to(self.device))

    def _left(self, tokens: Tokens) -> Tokens:
        """Move padding to the left, where generation needs it."""
        if bool(tokens.mask[:, -1].all()):
            return tokens
        rows = [ids[mask].tolist() for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]
        return self.pad(rows, "left")

    def end_ids(self) -> list[int]:
        """The ids that end an answer."""
        config: Any = getattr(self.hf, "generation_config", None) or self.hf.config
        end = getattr(config, "eos_token_id", None)
        if end is None:
            end = getattr(self.tokenizer, "eos_token_id", None)
        return [] if end is None else [int(i) for i in (end if isinstance(end, (list, tuple)) else [end])]

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise HookeError(f"{self.name} has no tokenizer; give it token ids")
        return self.tokenizer

    def _spelling(self) -> Spelling:
        tokenizer = self._tokenizer()
        if self._spelled is None or self._spelled.tokenizer is not tokenizer or self._spelled.size != len(tokenizer):
            self._spelled = Spelling(tokenizer)
        return self._spelled


def _taps(given: Any) -> dict[Site, Tap]:
    if not isinstance(given, Mapping) or not all(callable(tap) for tap in given.values()):
        raise HookeError(f"taps are a dictionary of functions by site, not {shown(given)}")
    return {Site.parse(site): tap for site, tap in given.items()}


def _unicode(text: str) -> str:
    """The text, if tokenizers can read it; bytes of another encoding come as lone surrogates from the command line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HookeError(f"{text[:40]!r} is not text in UTF-8; write it in that encoding") from None
    return text
