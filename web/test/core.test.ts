import { describe, expect, it } from "vitest";
import { fileName } from "../src/core/files";
import { chance, count, num, percent, plain, seconds, short, token } from "../src/core/format";
import { escape, SvgPen } from "../src/core/pen";
import { paint } from "../src/core/picture";
import { fromBase64, parse, unpack } from "../src/core/unpack";
import { read, write } from "../src/core/url";
import { copy } from "../src/shells/file";
import { gzip, pageOf, safetensors, shown } from "./helpers";

describe("numbers", () => {
  it("have three significant digits and a true minus", () => {
    expect(num(1.23456)).toBe("1.23");
    expect(num(-0.5, true)).toBe("−0.500");
    expect(num(0.5, true)).toBe("+0.500");
    expect(num(0, true)).toBe("0");
    expect(num(12345)).toBe("12345");
    expect(num(999.7)).toBe("1000");
    expect(num(1e-7)).toBe("1.0e−7");
    expect(num(null)).toBe("–");
    expect(num(NaN)).toBe("–");
  });
  it("say shares and probabilities", () => {
    expect(percent(0.1234)).toBe("12 %");
    expect(percent(0.012)).toBe("1.2 %");
    expect(percent(-0.00001)).toBe("−<0.01 %");
    expect(chance(0.773)).toBe("77.3 %");
    expect(chance(0.00001)).toBe("<0.01 %");
    expect([0.9994, 0.9996, 0.99994, 0.99996, 1].map(chance)).toEqual(["99.9 %", "99.96 %", "99.99 %", ">99.99 %", "100.00 %"]);
    expect([0.5, 9.97, 89, 119.6, 179.9, 200].map(seconds)).toEqual(["0.5 s", "10 s", "89 s", "2 min 0 s", "3 min 0 s", "3 min 20 s"]);
    expect(count(1234567)).toBe("1\u202f234\u202f567");
  });
});

describe("tokens", () => {
  it("show what cannot be seen, and nothing that could reorder text", () => {
    expect(token(" Paris")).toBe("·Paris");
    expect(token("a\nb")).toBe("a↵b");
    expect(token("")).toBe("∅");
    expect(token("\u202eevil\u0000")).toBe("\\u202eevil\\u0000");
    expect(plain("a b\u200bc")).toBe("a b\\u200bc");
    for (const from of ["E0001", "E0020", "E007F", "3164", "115F", "1160", "FFA0", "FE00", "FE0F", "034F", "2800", "E0100", "E01EF", "200D", "FFF9"]) {
      const spelled = from.length > 4 ? `\\u{${from.toLowerCase()}}` : `\\u${from.toLowerCase()}`;
      for (const show of [token, plain]) expect(show(`a${String.fromCodePoint(parseInt(from, 16))}b`)).toBe(`a${spelled}b`);
    }
    expect(token("\ud800")).toBe("\\ud800");
    for (const text of ["naïve", "日本語", "한국어", "नमस्ते", "😀", "e\u0301", "العربية"]) expect([token(text), plain(text)]).toEqual([text, text]);
  });
  it("are cut between characters, not inside one", () => {
    expect(short("a😀b", 3)).toBe("a😀b");
    expect(short("a😀bc", 3)).toBe("a😀…");
  });
  it("cannot break out of an SVG", () => {
    expect(escape('</text><script>"&\u0000\ud800')).toBe("&#60;/text&#62;&#60;script&#62;&#34;&#38;\ufffd\ufffd");
    const pen = new SvgPen();
    paint(pen, [{ x: 0, y: 0, text: "<b>", fill: "#000" }, { x: 0, y: 0, w: 2, h: 2, stroke: "#fff" }]);
    const text = pen.done(10, 10, "<b>");
    expect(text).toContain("&#60;b&#62;");
    expect(new DOMParser().parseFromString(text, "image/svg+xml").querySelector("b")).toBeNull();
  });
  it("make safe file names", () => expect(fileName("../a b/<c>", "svg")).toBe("a-b-c.svg"));
});

describe("addresses", () => {
  const start = { cell: "", prune: 0.8, pinned: [], depth: "standard" };
  it("hold only what differs, and give it back", () => {
    const state = { ...start, cell: "3:4", prune: 0.5, pinned: ["1_2_3"], find: "true", number: "12" };
    expect(read(`#${write(state, start)}`)).toEqual({ cell: "3:4", prune: 0.5, pinned: ["1_2_3"], find: "true", number: "12" });
    expect(write(start, start)).toBe("");
  });
  it("leave out what is too long for a mail, and ignore nonsense", () => {
    const text = write({ cell: "1:1", pinned: Array.from({ length: 3000 }, (_, i) => `${i}_1_1`) }, start);
    expect(text).toBe("cell=1%3A1");
    expect(read("#cell={broken&__proto__=1&&x")).toEqual({ cell: "{broken", x: "" });
  });
});

describe("page bytes", () => {
  const page = pageOf(shown("strange", { type: "generic", payload: { a: "</script>\u202e" } }));
  const tensors = { "0.a": new Float32Array([1, -2.5]), "0.b": new Uint32Array([7]), "0.c": new Uint8Array([1, 2, 3]), "0.none": new Uint32Array() };
  it("come back as they were", async () => {
    const back = await unpack(await gzip(safetensors(page, tensors)));
    expect(back.page).toEqual(page);
    expect(back.tensors).toEqual(tensors);
  });
  it("that are damaged say so in one line", async () => {
    const good = await gzip(safetensors(page, tensors));
    await expect(unpack(good.slice(0, good.length / 2))).rejects.toThrow("damaged or cut off");
    await expect(unpack(new Uint8Array([1, 2, 3]))).rejects.toThrow("damaged or cut off");
    const buffer = (bytes: Uint8Array) => bytes.buffer as ArrayBuffer;
    expect(() => parse(new ArrayBuffer(3))).toThrow("not a page of Hooke");
    expect(() => parse(buffer(safetensors("", {})).slice(0, 20))).toThrow("not a page of Hooke");
    expect(() => parse(buffer(safetensors({ ...page, version: 2 }, {})))).toThrow("another version");
  });
  it("travel as base64", () => expect([...fromBase64(" AQID\n")]).toEqual([1, 2, 3]));
});

it("a copy of a saved file carries the state and stays one document", () => {
  const page = (html: string) => new DOMParser().parseFromString(html, "text/html").documentElement;
  const html = '<html><body><script type="text/plain" id="hooke-data">AA</script><script type="module">1</script></body></html>';
  const once = copy(page(html), { find: "</script><b>\u2028" });
  expect(once.match(/<\/script>/g)).toHaveLength(3);
  expect(page(once).querySelector("b")).toBeNull();
  const twice = copy(page(once), { find: "x" });
  expect(twice.match(/id="hooke-state"/g)).toHaveLength(1);
  expect(twice).toContain('{"find":"x"}');
});
