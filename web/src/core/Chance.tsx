// A probability in a table: its number, over a strip as wide as it is likely.

import { chance, strip } from "./format";

export const Strip = ({ value }: { value: number | null }) => <span class="strip" style={{ width: strip(value ?? 0) }} />;

export function Chance({ value }: { value: number }) {
  return (
    <td class="number">
      <Strip value={value} />
      {chance(value)}
    </td>
  );
}
