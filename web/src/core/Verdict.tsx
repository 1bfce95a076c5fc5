// The badge of a claim: how its test ended.

/** How a test ended. `reason` begins with what was predicted where there was one: right sign and wrong size is neither. */
export function Verdict({ verdict, reason = "" }: { verdict: string; reason?: string }) {
  const unclear = reason.startsWith("predicted") ? "tested: unclear" : "not tested";
  const said = { tested: "tested: confirmed", refuted: "tested: refuted", untested: unclear }[verdict] ?? verdict;
  return <span class={`badge ${verdict}`}>{said}</span>;
}
