// One bundle, three shells: the document says which. In a notebook the host calls `render`.

import { startApp } from "./shells/app";
import { startFile } from "./shells/file";
import { render } from "./shells/widget";

export { mount } from "./mount";
export default { render };

if (typeof document !== "undefined") {
  if (document.getElementById("hooke-data")) void startFile();
  else if (document.getElementById("hooke-app")) void startApp();
}
