// The badge of a claim, a node or an edge: how its test ended, in the words of the terminal and the files.

/** In the order of the numbers that links carry. */
export const VERDICTS = ["untested", "as-predicted", "not-as-predicted", "matters", "no-effect", "tested", "refuted"] as const;
export const WORDS: Record<string, string> = {
  untested: "not tested",
  "as-predicted": "matters, as predicted",
  "not-as-predicted": "matters, not as predicted",
  matters: "matters",
  "no-effect": "no effect beyond random ones",
  tested: "tested: it holds",
  refuted: "tested: it does not hold",
};
const MEANS: Record<string, string> = {
  "as-predicted": "moves the answer more than random ones do, the predicted way, by half to twice as much",
  "not-as-predicted": "moves the answer more than random ones do, but the prediction has the wrong sign or size",
  matters: "moves the answer more than random ones do; there was no prediction to compare with",
  "no-effect": "moves the answer no more than random ones do",
  untested: "was not changed in the model",
};

export function Verdict({ verdict }: { verdict: string }) {
  return <span class={`badge ${verdict}`} title={MEANS[verdict]}>{WORDS[verdict] ?? verdict}</span>;
}
