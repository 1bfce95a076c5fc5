// A report: what was found beside what was not looked at, then the other sections; each sentence leads to its evidence, drawn as what it is, in the same page.

import { computed, type Signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { over, type State, type View as Picture, type ViewProps } from "../core/contract";
import { count, num, plain, token } from "../core/format";
import { write } from "../core/url";
import { Value } from "../generic/GenericView";
import type { AssessView as View, Finding, Sentence, Shown } from "../types";

/** The view of a report. viewOf: which picture a piece of evidence has; the table of pictures knows, and this is one of them. */
export const assessed = (viewOf: (result: Shown) => Picture): Picture => ({
  component: (props) => <AssessView {...props} viewOf={viewOf} />,
  initial: () => ({ open: "", at: {} }),
});

const NO_MODEL = "This is the evidence of a report: there is no model behind it.";

type Props = ViewProps & { viewOf: (result: Shown) => Picture };
type Part = Props & { view: View };

function AssessView(props: Props) {
  const view = props.result.view as View;
  const open = String(props.state.value.open);
  const number = props.data.page.results.findIndex((r, i) => i > 0 && r.id === open.split("#")[0]);
  const root = useRef<HTMLDivElement>(null);
  const before = useRef("");
  const place = useRef(-1);
  const links = () => [...root.current!.querySelectorAll("a")];
  // to what was opened, and back to where it was opened from
  useEffect(() => {
    if (number > 0) {
      before.current = open;
      root.current!.querySelector("h2")!.focus();
      root.current!.closest(".hooke")!.scrollIntoView();
    } else if (before.current) {
      // a sentence may stand twice: first where it was pressed
      [links()[place.current], ...links()].find((a) => a?.dataset.to === before.current)?.focus();
    }
  }, [open]);
  const part = { ...props, view };
  return (
    <div ref={root} class="assess" onClickCapture={(e) => number > 0 || (place.current = links().indexOf((e.target as Element).closest("a")!))}>
      {number > 0 ? <Opened key={open} {...part} open={open} number={number} /> : <Report {...part} />}
    </div>
  );
}

/** A way to an evidence id, or with none back to the report. A plain click is a step in the history. */
function Way({ to, set, children }: { to: string; set: ViewProps["set"]; children: preact.ComponentChildren }) {
  const go = (event: MouseEvent) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    set({ open: to, at: {} });
  };
  return (
    <a href={`#${write({ open: to }, {})}`} data-to={to} onClick={go}>
      {children}
    </a>
  );
}

/** Ways to all evidence of a sentence; each says what it leads to. */
function Ways({ names, data, view, set, about }: Part & { names: string[]; about: string }) {
  return (
    <span class="ways">
      {names.map((to) => {
        const [id, key] = split(to);
        const at = data.page.results.findIndex((r) => r.id === id);
        const kind = data.page.results[at]?.kind ?? "?";
        const of = view.evidence[at - 1]?.title.split(": ").slice(1).join(": ");
        return (
          <Way key={to} to={to} set={set}>
            <span class="hidden">Evidence for {plain(about)}: </span>
            {plain(kind).replaceAll("_", " ")}
            {LEADS[kind] && `, ${LEADS[kind]}`}
            {of && ` (${plain(of)})`}
            {key && `: ${plain(inside(key, Object.hasOwn(view.places, to) ? view.places[to].value : null))}`}
          </Way>
        );
      })}
    </span>
  );
}

/** What stands in the evidence of a kind. */
const LEADS: Record<string, string> = {
  answers: "what the model says",
  behaviour: "both models' answers",
  difference: "what the reference does not expect",
  triggers: "the scan for strings",
  elicitation: "what comes back",
  hypotheses: "all hypotheses beside clean models",
  coverage: "what was looked at",
  load_checks: "the equations",
  restore: "the reference's stream put back",
};

/** A place in a piece of evidence, by what stands there. */
function inside(key: string, value: unknown): string {
  const row = (value && typeof value === "object" && !Array.isArray(value) ? value : {}) as Record<string, unknown>;
  const said = (name: string) => (typeof row[name] === "string" ? (row[name] as string) : "");
  if (said("word")) return `“${said("word")}”${said("area") && ` in ${said("area")}`}`;
  if (said("candidate")) return `the string “${said("candidate")}”${said("place") && ` at the ${said("place")}`}`;
  if (said("topic")) return said("topic");
  if (said("hypothesis")) return `hypothesis ${row.rank ?? ""}`;
  return typeof value === "string" ? value : key;
}

const split = (name: string): [string, string] => [name.slice(0, 32), name.slice(33)];

function Report(part: Part) {
  const { view } = part;
  const first = ["findings", "limits"];
  const flagged = view.claims.filter((c) => c.role === "finding").length;
  const n = (role: Sentence["role"]) => view.claims.filter((c) => c.role === role).length;
  const named = (about: View["reference"]) => plain(String(about?.name ?? "a model"));
  const section = (s: View["sections"][number]) => (
    <section key={s.key} class={s.key === "limits" ? "aside" : undefined}>
      <h2>{plain(s.title)}</h2>
      {s.stamp && <Stamp text={s.stamp} />}
      {s.key === "subject" && <Value value={{ subject: view.subject, reference: view.reference }} name="subject" depth={0} dark={part.dark} />}
      <Sentences {...part} claims={view.claims.filter((c) => c.section === s.key)} />
      {s.key === "controls" && <Controls {...part} />}
      {s.key === "findings" && <Findings {...part} />}
    </section>
  );
  const alarms = view.false_alarms;
  return (
    <>
      <p class="lens-sentence">
        {named(view.subject)}
        {view.reference ? `, compared with ${named(view.reference)}` : ", with no reference to compare it with"}
      </p>
      {view.quick && <Stamp text="QUICK: few questions and strings, no probes, no traces" />}
      {!view.validated && <Stamp text="instrument not validated" />}
      <p class="alarms">
        {alarms
          ? `False alarms: these rules flag ${alarms.count} of ${alarms.n} clean fine-tunes, so the rate may be as high as ${Math.round(100 * alarms.upper_95)} % (one-sided 95 %).`
          : "False alarms: not known, there are no clean fine-tunes of this reference; nothing can be flagged."}
      </p>
      <p>
        {flagged === 1 ? "1 finding is" : `${flagged || "No"} findings are`} flagged. The other sentences: {count(n("measured") + n("noted"))} measured and not
        flagged, {count(n("control"))} of controls, {count(n("run"))} about the run, {count(n("gap"))} not tested.
      </p>
      <div class="first">{view.sections.filter((s) => first.includes(s.key)).map(section)}</div>
      {view.sections.filter((s) => !first.includes(s.key)).map(section)}
    </>
  );
}

const Stamp = ({ text }: { text: string }) => <p class="stamp">{plain(text)}</p>;

function Table({ name, head, children }: { name: string; head: string[]; children: preact.ComponentChildren }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`Table: ${name}`}>
      <table>
        <thead>
          <tr>
            {head.map((h) => (
              <th key={h} scope="col">
                {h}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}

function Sentences({ claims, ...part }: Part & { claims: Sentence[] }) {
  return (
    <ul class="claims">
      {claims.map((c) => (
        <li key={c.id}>
          <Role claim={c} /> {plain(c.text)} <Ways {...part} names={c.evidence} about={c.text} />
        </li>
      ))}
    </ul>
  );
}

/** What sort of sentence it is. A flagged finding is a warning and never green; only a control passes or fails. */
function Role({ claim }: { claim: Sentence }) {
  const held = claim.verdict === "tested";
  const said = {
    finding: "flagged",
    noted: "not flagged",
    measured: held ? "measured" : "not borne out",
    control: held ? "control passed" : "control failed",
    run: "about the run",
    gap: "not tested",
  }[claim.role];
  return <span class={`badge role-${claim.role}${claim.role === "control" && !held ? " failed" : ""}`}>{said}</span>;
}

function Controls(part: Part) {
  const { controls } = part.view;
  if (!controls.length) return <p class="soft">There are no models with known behaviour for this one: no control was run.</p>;
  return (
    <Table name="Controls" head={["Control", "Kind", "Expected", "Found", "Passed", "Evidence"]}>
      {controls.map((c) => (
        <tr key={c.name}>
          <th scope="row">{plain(c.name)}</th>
          <td>{c.kind}</td>
          <td>{plain(c.expected)}</td>
          <td>{plain(c.found)}</td>
          <td>
            <span class={`badge role-control${c.passed ? "" : " failed"}`}>{c.passed ? "passed" : "failed"}</span>
          </td>
          <td>
            <Ways {...part} names={c.evidence} about={c.name} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Findings(part: Part) {
  const { findings } = part.view;
  if (!findings.length) return null;
  const flag = (f: Finding) => (f.flagged ? "flagged" : "not flagged");
  return (
    <Table name="Findings" head={["Rank", "Flagged", "Hypothesis", "Kind", "Answers", "95 % interval", "Effect", "Threshold", "Tokens", "Evidence"]}>
      {findings.map((f) => (
        <tr key={f.rank}>
          <td class="number">{f.rank}</td>
          <td>
            <span class={`badge role-${f.flagged ? "finding" : "noted"}`}>{flag(f)}</span>
          </td>
          <td class="words">{plain(f.hypothesis)}</td>
          <td>{plain(f.kind)}</td>
          <td class="number">{f.n == null ? "–" : `${f.hits} of ${f.n}`}</td>
          <td class="number">{f.interval ? `${Math.round(100 * f.interval[0])}–${Math.round(100 * f.interval[1])} %` : "–"}</td>
          <td class="number">{num(f.score)}</td>
          <td class="number">{num(f.threshold)}</td>
          <td>
            {f.tokens.slice(0, 12).map((t, i) => (
              <span key={i} class="tok chip">
                {token(t)}
              </span>
            ))}
            {f.tokens.length > 12 && `and ${f.tokens.length - 12} more`}
          </td>
          <td class="words">
            <Ways {...part} names={f.evidence} about={f.hypothesis} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** One piece of evidence, in the view of its kind. What a person does in it is `at` in the state of the report. */
function Opened({ view, open, number, viewOf, ...props }: Part & { open: string; number: number }) {
  const { data, state, set } = props;
  const shown = data.page.results[number];
  const [id, key] = split(open);
  const { title, left_out } = view.evidence[number - 1];
  const place = Object.hasOwn(view.places, open) ? view.places[open] : null;
  const { component: Evidence, initial } = viewOf(shown);
  const held = useMemo(() => {
    const base = { ...initial(shown), ...(place?.node ? { sel: place.node } : {}) };
    return computed(() => {
      const { runs: _, ...at } = state.value.at as State; // anybody can write an address
      return { depth: state.value.depth, theme: state.value.theme, ...over(base, at) };
    });
  }, []);
  const rests = [...view.claims, ...view.findings.map((f) => ({ text: f.hypothesis, evidence: f.evidence })), ...view.controls.map((c) => ({ text: `control ${c.name}`, evidence: c.evidence }))];
  return (
    <>
      <p>
        <Way to="" set={set}>
          ← Back to the report
        </Way>
      </p>
      <h2 tabIndex={-1}>
        Evidence: {plain(title)} <span class="soft mono">{id}</span>
      </h2>
      <p class="soft">
        On it rests: {rests.filter((s) => s.evidence.includes(open)).map((s) => plain(s.text)).join(" · ")}
      </p>
      {left_out.length > 0 && (
        <div class="soft">
          Not in this page, but in evidence/{id}:
          <ul>
            {left_out.map((line) => (
              <li key={line}>{plain(line)}</li>
            ))}
          </ul>
        </div>
      )}
      {key && place && !place.node && (
        <section class="generic">
          <h3>{plain(key)}</h3>
          <Value value={place.value} name={key} depth={0} dark={props.dark} />
        </section>
      )}
      <Evidence
        {...props}
        result={shown}
        number={number}
        state={held as Signal<State>}
        set={(patch, how) => set({ at: { ...(state.peek().at as State), ...patch } }, how)}
        shell={{ live: { refused: NO_MODEL, intervene: () => Promise.reject(new Error(NO_MODEL)) } }}
      />
    </>
  );
}
