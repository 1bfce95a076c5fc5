// What kind of thing a piece of an unknown payload is, and so how it can be shown.

export type Scalar = null | undefined | boolean | number | string;
export type Row = Record<string, unknown>;
export type Kind = "scalar" | "series" | "matrix" | "rows" | "columns" | "scalars" | "list" | "record" | "empty";

export const isScalar = (x: unknown): x is Scalar => x === null || x === undefined || typeof x !== "object";
export const isNumber = (x: unknown): x is number | null => x === null || typeof x === "number";
const isRow = (x: unknown): x is Row => typeof x === "object" && x !== null && !Array.isArray(x);
/** Numbers, with holes allowed, but not holes only. */
const numbers = (x: unknown): x is (number | null)[] => Array.isArray(x) && x.every(isNumber) && x.some((v) => v !== null);

export function kindOf(x: unknown): Kind {
  if (isScalar(x)) return "scalar";
  if (Array.isArray(x)) {
    if (x.length === 0) return "empty";
    if (numbers(x)) return x.length > 2 ? "series" : "scalars";
    if (x.every(isScalar)) return "scalars";
    if (x.every((v) => numbers(v) && v.length === x[0].length && v.length > 0)) return "matrix";
    if (x.every(isRow)) return "rows";
    return "list";
  }
  const values = Object.values(x as Row);
  if (values.length === 0) return "empty";
  const even = values.length > 1 && values.every((v) => numbers(v) && v.length > 2 && v.length === (values[0] as unknown[]).length);
  return even ? "columns" : "record";
}

/** Names of the columns of a list of records, in the order in which they first appear. */
export function columnsOf(rows: Row[]): string[] {
  const names = new Set<string>();
  for (const row of rows) for (const name of Object.keys(row)) names.add(name);
  return [...names];
}

/** Columns that a line can be drawn of. */
export function numeric(rows: Row[], columns: string[]): string[] {
  return columns.filter((c) => rows.every((r) => isNumber(r[c] ?? null)) && rows.some((r) => typeof r[c] === "number"));
}

/** Whether a column only numbers its rows. */
export const counts = (rows: Row[], column: string): boolean => {
  const [first, second] = [rows[0], rows[1]].map((r) => r?.[column] as number);
  return rows.every((r, i) => r[column] === first + i * (second - first));
};

/** A key as a person would write it. */
export function titled(key: string): string {
  const text = key.replace(/_+/g, " ").replace(/\b(auroc|cpr|cmd)\b/g, (word) => word.toUpperCase()).trim();
  return text ? text[0].toUpperCase() + text.slice(1) : "–";
}
