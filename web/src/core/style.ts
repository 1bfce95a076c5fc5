// The style travels inside the bundle. Constructed sheets work under a strict content policy and in shadow roots.

import assess from "../assess/assess.css?inline";
import generic from "../generic/generic.css?inline";
import home from "../home/home.css?inline";
import lens from "../lens/lens.css?inline";
import page from "../page.css?inline";

let sheet: CSSStyleSheet | undefined;

export function adopt(root: Document | ShadowRoot): void {
  if (!("adoptedStyleSheets" in root) || typeof CSSStyleSheet.prototype.replaceSync !== "function") return;
  if (!sheet) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync([page, lens, generic, home, assess].join("\n"));
  }
  if (!root.adoptedStyleSheets.includes(sheet)) root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
}
