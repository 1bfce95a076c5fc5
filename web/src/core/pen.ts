// What pictures are drawn with: a canvas, or a writer of SVG, so that the exported picture is the one on screen.

export type Pen = Pick<
  CanvasRenderingContext2D,
  | "beginPath" | "moveTo" | "lineTo" | "bezierCurveTo" | "arc" | "rect" | "closePath" | "fill" | "stroke" | "fillText" | "setLineDash"
  | "fillRect" | "strokeStyle" | "fillStyle" | "lineWidth" | "globalAlpha" | "font" | "textAlign" | "textBaseline"
>; // prettier-ignore

export class SvgPen implements Pen {
  strokeStyle: string = "#000";
  fillStyle: string = "#000";
  lineWidth = 1;
  globalAlpha = 1;
  font = "12px sans-serif";
  textAlign: CanvasTextAlign = "start";
  textBaseline: CanvasTextBaseline = "alphabetic";
  private path: string[] = [];
  private dash: number[] = [];
  private out: string[] = [];

  beginPath(): void {
    this.path = [];
  }
  moveTo(x: number, y: number): void {
    this.path.push(`M${r(x)} ${r(y)}`);
  }
  lineTo(x: number, y: number): void {
    this.path.push(`L${r(x)} ${r(y)}`);
  }
  bezierCurveTo(a: number, b: number, c: number, d: number, x: number, y: number): void {
    this.path.push(`C${r(a)} ${r(b)} ${r(c)} ${r(d)} ${r(x)} ${r(y)}`);
  }
  /** Whole circles only: that is all the pictures use. */
  arc(x: number, y: number, radius: number): void {
    const q = r(radius);
    this.path.push(`M${r(x + radius)} ${r(y)}A${q} ${q} 0 1 1 ${r(x - radius)} ${r(y)}A${q} ${q} 0 1 1 ${r(x + radius)} ${r(y)}`);
  }
  rect(x: number, y: number, w: number, h: number): void {
    this.path.push(`M${r(x)} ${r(y)}h${r(w)}v${r(h)}h${r(-w)}Z`);
  }
  closePath(): void {
    this.path.push("Z");
  }
  setLineDash(dash: number[]): void {
    this.dash = dash;
  }
  fill(): void {
    if (this.path.length) this.out.push(`<path d="${this.path.join("")}" fill="${this.fillStyle}"${this.alpha()}/>`);
  }
  stroke(): void {
    if (!this.path.length) return;
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.join(" ")}"` : "";
    this.out.push(`<path d="${this.path.join("")}" fill="none" stroke="${this.strokeStyle}" stroke-width="${r(this.lineWidth)}"${dash}${this.alpha()}/>`);
  }
  fillRect(x: number, y: number, w: number, h: number): void {
    this.out.push(`<rect x="${r(x)}" y="${r(y)}" width="${r(w)}" height="${r(h)}" fill="${this.fillStyle}"${this.alpha()}/>`);
  }
  fillText(text: string, x: number, y: number): void {
    const anchor = this.textAlign === "center" ? "middle" : this.textAlign === "right" || this.textAlign === "end" ? "end" : "start";
    const [size, family] = [parseFloat(this.font), this.font.replace(/^[\d.]+px /, "")];
    this.out.push(
      `<text x="${r(x)}" y="${r(y)}" font-size="${size}" font-family="${escape(family)}" text-anchor="${anchor}" ` +
        `dominant-baseline="${this.textBaseline === "middle" ? "central" : "auto"}" fill="${this.fillStyle}"${this.alpha()}>${escape(text)}</text>`,
    );
  }
  private alpha(): string {
    return this.globalAlpha < 1 ? ` opacity="${r(this.globalAlpha)}"` : "";
  }
  done(width: number, height: number, title: string): string {
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">` +
      `<title>${escape(title)}</title>${this.out.join("\n")}</svg>`
    );
  }
}

const r = (x: number): string => String(Math.round(x * 100) / 100);
// labels are untrusted: no mark-up, and characters that XML does not allow become the replacement character
export const escape = (text: string): string =>
  text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd")
    .replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const MAX_SIDE = 16_000; // browsers refuse larger canvases

/** A picture as a PNG at twice its size, or as near to that as the browser can. Rejects with one line. */
export function png(width: number, height: number, draw: (pen: Pen) => void): Promise<Blob> {
  const scale = Math.min(2, MAX_SIDE / width, MAX_SIDE / height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * scale);
  canvas.height = Math.ceil(height * scale);
  const pen = canvas.getContext("2d");
  if (!pen) return Promise.reject(new Error("this browser cannot draw a PNG; export SVG"));
  pen.scale(scale, scale);
  draw(pen);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large for a PNG; export SVG")))),
  );
}

/** The same picture as SVG. */
export function svg(width: number, height: number, title: string, draw: (pen: Pen) => void): Blob {
  const pen = new SvgPen();
  draw(pen);
  return new Blob([pen.done(width, height, title)], { type: "image/svg+xml" });
}
