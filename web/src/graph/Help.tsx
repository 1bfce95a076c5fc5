// All keys.

const KEYS: [string, string][] = [
  ["← → ↑ ↓", "the next node: left and right, up and down a layer (in the graph)"],
  ["Enter", "select it"],
  ["[  ]", "go to its strongest input, its strongest output"],
  ["p", "pin or unpin it"],
  ["g", "collect nodes for a group; again: make the group"],
  ["/", "find"],
  ["l", "links: in and out, inputs, outputs"],
  ["+  −  0", "zoom in, zoom out, fit (in the graph)"],
  ["f", "graph on the full screen"],
  ["t", "table instead of the picture"],
  ["z", "undo"],
  ["Esc", "leave: grouping, full screen, selection, search"],
  ["?", "this list"],
];

export function Help() {
  return (
    <dialog class="keys" aria-label="Keys">
      <form method="dialog">
        <h2>Keys</h2>
        <table>
          <tbody>
            {KEYS.map(([key, what]) => (
              <tr key={key}>
                <th scope="row"><kbd>{key}</kbd></th>
                <td>{what}</td>
              </tr>
            ))}
          </tbody>
        </table>
        <p class="soft">
          With a pointer: click selects, Ctrl-click pins, Shift keeps the hovered node while you move away. ● feature, ■ token or output, ◆ remainder or error. A solid
          green ring: matters, as predicted; an amber one: matters, not as predicted; a dashed red one: no effect beyond random ones; none: not tested. Links with a green edge
          matter as predicted, and only these have a colour for their sign, blue raises, red lowers; dashed: not as predicted; dotted: no effect. Width is strength.
        </p>
        <button>Close</button>
      </form>
    </dialog>
  );
}
