"""Drafts: tokens that may come next, checked in one pass.

Speculative decoding (Leviathan et al., 2023) without a second model: the planned concepts are read
back into tokens, or tokens are copied from earlier in the text. All levels run over them and the
newest token as over a prompt, in one pass each: chunks of drafted tokens are composed, the levels
above plan after them, and each drafted position reads the plan that it would read if the drafts
before it had been written. What the token level would have written itself is kept. What all levels
stored for rejected drafts is overwritten by the next passes.

Where rules cut chunks, a draft ends with its chunk.

Shapes: B rows, R rows that take a step, L size of the buffer, n positions of a pass, H horizon, V
vocabulary, D width of level 1, D_0 of level 0.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from nextconcept.core.config import ModelConfig
from nextconcept.core.errors import InputError
from nextconcept.core.hierarchy import Hierarchy
from nextconcept.inference.draft_acceptance import DraftedPass, DraftFigures, UncheckedDrafts
from nextconcept.inference.draft_length import SOURCES, DraftLength
from nextconcept.inference.generators import CachedGenerator, PlanHook
from nextconcept.inference.locations import Location, visible_from
from nextconcept.inference.plan_drafts import PlanDrafts
from nextconcept.inference.ring_cache import AnchorStore, RowPositions
from nextconcept.inference.sampling import Draws
from nextconcept.inference.text_drafts import TextDrafts
from nextconcept.nn.model import NextConceptModel

__all__ = ["DraftingGenerator", "check_drafts", "write_drafted"]

COMPARED_ROWS = 8
"""Texts at most of which drafts and text are compared."""


def check_drafts(config: ModelConfig, draft: str | None, use_cache: bool) -> None:
    """Check that a model can draft.

    Raises:
        InputError: if ``draft`` is none of ``plan``, ``text`` and None, there is no cache, or the
            plan can't be read back.
    """
    if draft is None:
        return
    if draft not in SOURCES:
        raise InputError(f"unknown draft {draft!r}: choose plan, text, or none.")
    if not use_cache:
        raise InputError(f"draft {draft!r} works on the cache: leave the draft out, or set use_cache.")
    if draft == "text":
        return
    if config.levels == 1:
        raise InputError(
            "draft 'plan' needs a plan, but the model has tokens alone: choose text, or leave the draft out."
        )
    if not config.encoder.reads_places:
        raise InputError(
            "draft 'plan' reads tokens back from planned concepts, which takes encoder.position_binding and a "
            f"composition of sum or mean, not {config.encoder.composition!r}: leave the draft out."
        )


class DraftingGenerator(CachedGenerator):
    """Computes the logits behind the newest token and behind drafted ones.

    Args:
        model: in eval mode.
        rows: B.
        size: the greatest number of tokens that are visible at once.
        draws: how tokens are drawn.
        hook: changes plans before they are read.
        draft: where drafts come from, ``plan`` or ``text``.
    """

    def __init__(
        self,
        model: NextConceptModel,
        rows: int,
        size: int,
        draws: Draws,
        hook: PlanHook | None = None,
        draft: str = "plan",
    ) -> None:
        length = DraftLength(model.config, draft, rows)
        super().__init__(model, rows, size, hook, length.longest, within=model.chunker is not None)
        self.length, self.draws = length, draws
        self.planned: AnchorStore | None = None
        self.source: PlanDrafts | TextDrafts = TextDrafts()
        if draft == "plan":
            self.planned = AnchorStore(rows, self.steppers[0].plans.slots)
            self.source = PlanDrafts(model, draws, self.planned)

    def place(self, lengths: Tensor) -> int:
        """Return the place in its chunk of the token after texts, at most; 0 where rules cut."""
        return 0 if self.model.chunker is not None else int((lengths % self.config.hierarchy.chunk_size).max())

    def passes(self, ids: Tensor, starts: Tensor, lengths: Tensor, most: Tensor) -> list[DraftedPass]:
        """Read the newest token of each row, and drafts.

        Args:
            ids: (B, L) texts; what stands after the end of a row is arbitrary.
            starts: (B,) first visible token.
            lengths: (B,) tokens of each row, one more than were read or accepted before.
            most: (B,) tokens that each row may still take; 0 for a row that waits or has ended.

        Returns:
            Passes which together have each row that takes a token once.
        """
        going = most > 0
        fresh = (starts != self.starts) & going
        if not fresh.any():
            return [self._drafted(ids, starts, lengths, most, None if going.all() else going.nonzero().squeeze(1))]
        self.starts = torch.where(going, starts, self.starts)
        rows, rest = fresh.nonzero().squeeze(1), (going & ~fresh).nonzero().squeeze(1)
        logits = self._prefill(ids, starts, lengths, rows)
        read = [DraftedPass.alone(rows, logits)]
        return [*read, self._drafted(ids, starts, lengths, most, rest)] if len(rest) else read

    def _drafted(self, ids: Tensor, starts: Tensor, lengths: Tensor, most: Tensor, rows: Tensor | None) -> DraftedPass:
        """Read the newest token of (R,) rows, and drafts after it."""
        at = self._locate(ids, starts, lengths, rows)
        position, state = at.positions(0), None
        if self.config.levels > 1 and at.done(1).any():
            state = self._states(at.newest_tokens(), position)
            self._read(at, at.before(), state, position)
        # With the last draft the visible text is as long as it may be, and one token follows it.
        room = torch.minimum(most[at.every_row] - 1, self.config.window_length - at.counts[0])
        room = room.clamp(max=self.length.best(len(room), self.place(at.lengths)))
        drafts, counts, then = self._drafts(at, room)
        if then is None:
            states = self._states(at.newest_tokens(), position) if state is None else state
            logits = self._logits(states, position, at.newest)
        else:
            logits = self._logits_of_drafts(at, then, state, drafts)
        return DraftedPass(at.every_row, logits, drafts, counts, room > 0)

    def _logits_of_drafts(self, at: Location, then: Location, state: Tensor | None, drafts: Tensor) -> Tensor:
        """Read the newest tokens (R, 1) and drafts (R, n - 1) after them: (R, n, V) logits.

        The levels above advance as if the drafts had been written, so that each position reads the
        plan that it would read then. What they make of rejected drafts is overwritten.

        Args:
            at: the texts without drafts.
            then: the texts with them.
            state: (R, 1, D_0) inputs of the token decoder at the newest tokens, if computed.
            drafts: (R, n - 1) drafted tokens.
        """
        ahead = drafts.shape[1]
        every = at.positions(0, ahead)
        if state is None:
            states = self._states(torch.cat((at.newest_tokens(), drafts), 1), every)
        else:
            behind = RowPositions(every.known + 1, at.rows, drafts.device, ahead - 1)
            states = torch.cat((state, self._states(drafts, behind)), 1)
        self._read(then, at.counts, states, every)
        return self._logits(states, every, then.reading(0, every))

    def _drafts(self, at: Location, room: Tensor) -> tuple[Tensor, Tensor, Location | None]:
        """Draft tokens, and put them after the texts.

        Where rules cut chunks, the last token of a chunk is no draft: the position after it would
        read the next plan, which says where its chunk ends only when that is written.

        Args:
            at: the texts; their buffer receives the drafts.
            room: (R,) the greatest number of drafts.

        Returns:
            (R, n - 1) drafts, how many each row has, (R,) on the CPU, and the texts with them; None
            where there are none.
        """
        ids, longest = at.ids, int(room.max())
        if longest <= 0:
            return ids.new_zeros(len(ids), 0), torch.zeros_like(room), None
        drafts, inside = self.source.read(at, longest)
        if not inside.any():
            return drafts[:, :0], torch.zeros_like(room), None
        ahead = torch.arange(longest)
        ids.scatter_(1, (at.lengths[:, None] + ahead).to(ids.device), drafts)
        inside &= (ahead < room[:, None]).to(ids.device)
        if self.running is not None and at.newest is not None:
            inside &= ~self.running.ends_after(drafts, at.rows)
            inside &= at.newest.place + ahead.to(ids.device) < self.config.hierarchy.span(1) - 1
        counts = inside.long().cumprod(1).sum(1).cpu()
        if not counts.any():
            return drafts[:, :0], counts, None
        return drafts[:, : int(counts.max())], counts, replace(at, lengths=at.lengths + counts)

    def foresee(self, ids: Tensor, starts: Tensor, lengths: Tensor) -> UncheckedDrafts:
        """Return what would be drafted after the first texts, whose tokens have all been read."""
        rows = None if len(ids) <= COMPARED_ROWS else torch.arange(COMPARED_ROWS)
        at = self._locate(ids, starts, lengths, rows)
        room = (self.config.window_length - at.counts[0]).clamp(max=self.length.longest)
        drafts, counts, _ = self._drafts(at, room)
        return UncheckedDrafts(at.lengths, drafts, counts, room > 0)

    def _set_plans(self, level: int, at: Location, anchors: RowPositions, plans: Tensor) -> None:
        """Let the level below read plans, and keep what drafts are read from."""
        super()._set_plans(level, at, anchors, plans)
        if level == 1 and self.planned is not None:
            self.planned.write(anchors, plans)


def write_drafted(
    decoder: DraftingGenerator,
    ids: Tensor,
    lengths: Tensor,
    max_new_tokens: int,
    figures: DraftFigures,
) -> Iterator[Tensor]:
    """Continue texts with drafts, and yield the next tokens, (B,) at a time.

    Each position draws its token from the decoder's own distribution, and a draft is kept if it is
    that token, unless texts are to stay level that are drafted no more. Because each token has a
    random number of its own, what is written is what would have been written without drafts, and
    has the same distribution.

    Args:
        decoder: the model.
        ids: (B, L) texts with room for what is written, and for the longest draft after it.
        lengths: (B,) tokens of each text.
        max_new_tokens: how many times to yield.
        figures: receives how many tokens passes have written.
    """
    config, first, end = decoder.config, lengths, lengths + max_new_tokens
    every, column = torch.arange(len(ids), device=ids.device), torch.arange(max_new_tokens)
    was_drafted = torch.zeros(len(ids), max_new_tokens, dtype=torch.bool)
    done, level, watched = 0, True, None  # level: all rows have written equally many tokens
    while done < max_new_tokens:
        starts, pays = visible_from(lengths, config.window_length, config.hierarchy), decoder.length.pays(len(ids))
        if level and not (pays and decoder.length.best(len(ids), decoder.place(lengths))):
            # As plain decoding does, and as fast.
            logits = decoder(ids, starts, lengths)
            if watched is None and decoder.length.skip():
                watched = decoder.foresee(ids, starts, lengths)
            drawn = decoder.draws.draw(logits[:, None], torch.arange(len(ids)), lengths)
            ids.scatter_(1, lengths[:, None].to(ids.device), drawn)
            lengths, ready = lengths + 1, done + 1
            figures.passes += len(ids)
        else:
            written = torch.zeros_like(lengths)
            # Without drafts, rows that fell behind catch up, because equal rows take less time.
            going = _going(lengths, first, end, config.hierarchy) if pays else lengths - first == done
            for one in decoder.passes(ids, starts, lengths, (end - lengths) * going):
                accepted = _write(one, ids, lengths, decoder.draws)
                decoder.length.update(one.rows, accepted, one.counts, one.asked)
                if level and len(one.rows) == len(ids) and not decoder.length.pays(len(ids)):
                    accepted = accepted.min().expand(len(ids))  # so that rows stay level
                written[one.rows] = accepted + 1
                begin = (lengths - first)[one.rows, None]
                was_drafted[one.rows] |= (column >= begin) & (column < begin + accepted[:, None])
                figures.add(accepted, one.counts)
            lengths = lengths + written
            least, most = (lengths - first).aminmax()
            ready, level = int(least), bool(least == most)
        if (
            watched is not None
            and (right := watched.accepted(ids[:COMPARED_ROWS], lengths[:COMPARED_ROWS])) is not None
        ):
            decoder.length.update(torch.arange(len(right)), right, watched.counts, watched.asked, compared=True)
            watched = None
        for step in range(done, ready):
            figures.was_drafted.append(was_drafted[:, step])
            yield ids[every, (first + step).to(ids.device)]
        done = ready


def _write(one: DraftedPass, ids: Tensor, lengths: Tensor, draws: Draws) -> Tensor:
    """Write the tokens of a pass, and return how many drafts were accepted, (R,).

    Args:
        one: the pass.
        ids: (B, L) texts.
        lengths: (B,) tokens of each text.
        draws: how to draw tokens.
    """
    drawn = draws.draw(one.logits, one.rows, lengths[one.rows])
    index = lengths[one.rows, None] + torch.arange(one.width)
    ids[one.rows.to(ids.device)[:, None], index.to(ids.device)] = drawn
    return one.accepted(drawn)


def _going(lengths: Tensor, first: Tensor, end: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Return which rows take a token in the next pass, (B,) bool.

    A row that has ended its chunk waits for those that have not. So rows stay together, and a level
    above advances for all of them at once.
    """
    going = lengths < end
    if len(lengths) == 1 or hierarchy.levels == 1 or hierarchy.rules:
        return going
    chunks = lengths // hierarchy.span(1) - first // hierarchy.span(1)
    return going & (chunks == chunks[going].min())
