import "@h5web/app/dist/styles.css";
import "./style.css";

import { App } from "@h5web/app";
import { H5WasmLocalFileProvider } from "@h5web/h5wasm";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

// The server hands out one log, under this one address.
const LOG = "log.h5";

function Viewer() {
  const [file, setFile] = useState();
  const [problem, setProblem] = useState();

  useEffect(() => {
    fetchLog().then(setFile, (error) => setProblem(error.message));
  }, []);

  if (problem) {
    return <p role="alert">The log cannot be shown: {problem}</p>;
  }
  if (!file) {
    return <p>Reading the log …</p>;
  }
  return (
    <H5WasmLocalFileProvider file={file}>
      <App sidebarOpen initialPath={"/"} />
    </H5WasmLocalFileProvider>
  );
}

async function fetchLog() {
  const response = await fetch(LOG, { cache: "no-store" });
  if (!response.ok) {
    throw new Error(await response.text());
  }
  const name = decodeURIComponent(response.headers.get("X-Log-Name") ?? LOG);
  document.title = name;
  return new File([await response.blob()], name);
}

createRoot(document.getElementById("root")).render(<Viewer />);
