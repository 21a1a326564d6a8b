import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  base: "./",
  build: {
    outDir: "../static",
    emptyOutDir: true,
    license: { fileName: "assets/licenses.txt" },
    // No file is put into another, so that each is served under its own type.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 4000,
    // Names without hashes, so that a rebuild shows in git as a change and not as other files.
    rollupOptions: {
      output: {
        entryFileNames: "assets/[name].js",
        chunkFileNames: "assets/[name].js",
        assetFileNames: "assets/[name][extname]",
      },
    },
  },
});
