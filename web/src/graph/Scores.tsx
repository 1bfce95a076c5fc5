// The numbers behind the picture, each with its control, and what they cannot say.

import { num, plain } from "../core/format";
import type { Store } from "./store";
import { traceOf, unitsOf } from "./trace";

/** units: what the features are called. */
const words = (units: string): Record<string, string> => ({
  completeness: "share of the nodes' input, by influence, that comes from drawn nodes and tokens",
  replacement: "share of the influence that reaches the tokens through drawn features alone",
  unexplained: "share of the input to these nodes that the graph leaves to remainder nodes",
  path_length: "mean number of links from the answer to a token",
  nodes: "how many features were kept",
  fit: "share of the effect on the reported quantity that the drawn nodes alone keep, all others held at counterfactual values",
  random_fit: "the same for as many random nodes",
  complement: "share of the effect that is left without the drawn nodes",
  spearman: "rank correlation of the graph's predictions and measured effects, single nodes",
  gradient_spearman: "the same for the plain gradient, which is the simpler prediction",
  activation_spearman: "the same for the size of the activation",
  groups_spearman: "rank correlation of the graph's predictions and measured effects, random groups of its nodes",
  groups_gradient_spearman: "the same for the plain gradient",
  held_spearman: "of single nodes, with attention patterns and norms held: how other tools draw graphs",
  held_groups_spearman: "of random groups of its nodes, the same",
  edges_spearman: "rank correlation of what single links should carry to the answer and what they carried",
  edges_held_spearman: "the same with attention patterns and norms held",
  edges_shuffled_spearman: "the same of links shuffled",
  paths_sign: "share of the paths below that carry what they should, by sign",
  curvature: "share of the answer's change from the similar prompts that the links into it leave unaccounted for",
  sign_agreement: "share of nodes whose effect has the predicted sign",
  as_predicted: "tested nodes that matter, as predicted",
  not_as_predicted: "tested nodes that matter, not as predicted",
  no_effect: "tested nodes that have no effect beyond random ones",
  edges_as_predicted: "tested links that matter, as predicted",
  edges_not_as_predicted: "tested links that matter, not as predicted",
  edges_no_effect: "tested links that have no effect beyond random ones",
  tested: "nodes whose predicted effect came true",
  refuted: "nodes whose predicted effect did not, whether or not they have one",
  edges_tested: "links whose predicted effect came true",
  edges_refuted: "links whose predicted effect did not, whether or not they have one",
  control_95th_percentile: `effect that 95 % of random ${units} stay under`,
});

/** A counterfactual as text; older files hold nothing else. */
const textOf = (b: unknown): string => (typeof b === "object" && b !== null && "text" in b ? String(b.text) : String(b));

export function Scores({ store }: { store: Store }) {
  const g = store.graph.value;
  const view = traceOf(g);
  const { scores, verification, quantity, graph_quantity: inside } = view;
  const known = words(unitsOf(g));
  const expert = store.props.depth === "expert";
  const all = [...Object.entries(scores), ...Object.entries(verification)].filter((e): e is [string, number] => typeof e[1] === "number");
  const rows = all.filter(([name]) => expert || known[name]);
  const baselines = verification.baselines;
  if (!rows.length) return null;
  return (
    <details class="scores">
      <summary>How good is this graph? Scores and controls</summary>
      <table>
        <tbody>
          {rows.map(([name, value]) => (
            <tr key={name}>
              <th scope="row">{plain(name).replaceAll("_", " ")}</th>
              <td class="number">{Number.isInteger(value) ? value : num(value)}</td>
              <td class="soft">{known[name] ?? ""}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {Array.isArray(baselines) && (
        <p class="soft">Switched off means: set to the values in {baselines.slice(0, 5).map((b) => `“${plain(textOf(b))}”`).join(", ")}.</p>
      )}
      {quantity && (
        <p class="soft">
          Effects are changes of the {plain(quantity.name)}: {plain(quantity.about)}.
          {inside && inside.name !== quantity.name && ` Predictions are of the ${plain(inside.name)}: ${plain(inside.about)}. They are compared with what was measured of the same.`}
        </p>
      )}
      <p class="soft">
        One token of one prompt. {view.form !== "live" && "Attention patterns are held as they were. "}A verdict is about the interventions done here and no others; other sets of
        nodes may explain as much.
      </p>
    </details>
  );
}
