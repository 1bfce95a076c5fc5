import preact from "@preact/preset-vite";
import { defineConfig } from "vitest/config";

// One ES module for the app, the notebook and the single file; fixed name, no hash, no source map.
export default defineConfig({
  plugins: [preact()],
  build: {
    target: "es2022",
    outDir: "../src/hooke/viewer/static",
    emptyOutDir: false,
    sourcemap: false,
    modulePreload: false,
    rolldownOptions: {
      input: "src/main.ts",
      preserveEntrySignatures: "strict", // the notebook imports what main exports
      output: {
        entryFileNames: "page.js",
        codeSplitting: false,
        // what a licence asks to be said, in every exported file too
        postBanner: "/*! Hooke, Apache-2.0. Contains Preact (c) Jason Miller and Preact Signals (c) Preact Team, MIT: THIRD_PARTY.txt */",
      },
    },
  },
  test: { environment: "happy-dom", include: ["test/**/*.test.{ts,tsx}"] },
});
