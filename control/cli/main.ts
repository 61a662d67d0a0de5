// The plinth command: gives run() the streams of the process, and the process the exit code.

import { run } from "./run";

// A reader that has seen enough, like `head`, is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

void run(process.argv.slice(2), process).then((code) => {
  process.exitCode = code;
  // A pipe or file is written out before the process ends; whatever else is open must not keep it.
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
});
