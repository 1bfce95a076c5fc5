// Which picture belongs to which view. A result that none is made for shows as tables and series.

import type { View } from "./core/contract";
import { assessed } from "./assess/AssessView";
import { CircuitView, circuitState } from "./circuit/CircuitView";
import { GenericView } from "./generic/GenericView";
import { GraphView, graphState } from "./graph/GraphView";
import { LensView, lensState } from "./lens/LensView";
import { PatchView } from "./patch/PatchView";
import { ProbeView } from "./probe/ProbeView";
import type { Shown } from "./types";

const VIEWS: Record<string, View> = {
  graph: { component: GraphView, initial: graphState },
  circuit: { component: CircuitView, initial: circuitState },
  lens: { component: LensView, initial: lensState },
  probe: { component: ProbeView, initial: () => ({}) },
  patch: { component: PatchView, initial: () => ({}) },
  assess: assessed((result) => viewOf(result)),
};
const FALLBACK: View = { component: GenericView, initial: () => ({}) };

export const viewOf = (result: Shown): View => VIEWS[result.view.type] ?? FALLBACK;
