#!/usr/bin/env node
// Runs a container through EasyQ: stdout to stdout, stderr to stderr, and its exit code.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { connect, isBreak, oneLine } from "./easyq.js";

const USAGE = "usage: run.js [--server HOST:PORT] [--task TASK] [-e KEY=VALUE]... IMAGE [COMMAND...]";
// What `easyq run` exits with where no container gave an exit code.
const OWN_FAILURE = 125;
// How long a server may be away while a job is followed, in milliseconds.
const PATIENCE = 60_000;

/** The options before the image; everything after it is the container's. */
function parse(argv) {
  const options = { server: { type: "string" }, task: { type: "string" }, env: { type: "string", short: "e", multiple: true } };
  const { tokens } = parseArgs({ args: argv, options, allowPositionals: true, strict: false, tokens: true });
  const image = tokens.find((token) => token.kind === "positional")?.index ?? argv.length;
  const { values } = parseArgs({ args: argv.slice(0, image), options });
  const [name, ...command] = argv.slice(image).filter((word, at) => at > 0 || word !== "--");
  if (!name) throw new TypeError("an image is missing");
  const envs = Object.fromEntries((values.env ?? []).map(pair));
  return {
    server: values.server || process.env.EASYQ_SERVER || "127.0.0.1:10001",
    task: values.task || "run",
    spec: { image: name, command, envs },
  };
}

function pair(text) {
  const at = text.indexOf("=");
  if (at < 1) throw new TypeError(`${text} is not KEY=VALUE`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** Writes the output of all attempts of a job as it comes, and gives its end. */
async function follow(farm, jobId) {
  const request = { jobId };
  let heard = Date.now();
  for (;;) {
    let problem = new Error("the output of the job has broken off");
    let some = false;
    const stream = farm.followLogs(request);
    try {
      for await (const { attempt, chunk, end } of stream) {
        some = true;
        // A broken stream is begun again where it was: nothing is lost or doubled.
        if (attempt) request.position = { ...attempt, ended: false };
        if (chunk) await write(chunk, request.position);
        if (end) request.position.ended = true;
        if (end?.jobEnded) return end;
      }
    } catch (error) {
      if (!isBreak(error)) throw error;
      problem = error;
    } finally {
      // One that is left early would go on, and keep this process alive.
      stream.cancel();
    }
    if (some) heard = Date.now();
    if (Date.now() - heard > PATIENCE) throw problem;
    await sleep(500);
  }
}

/** Returns when all of it is written, so that a slow reader slows the stream and not this program's memory. */
function write({ stream, offset, data }, position) {
  const isError = stream === "STDERR";
  position[isError ? "stderrOffset" : "stdoutOffset"] = offset + data.length;
  const target = isError ? process.stderr : process.stdout;
  return new Promise((done, failed) => target.write(data, (error) => (error ? failed(error) : done())));
}

// Whoever reads the output may leave: `write` tells of that.
for (const output of [process.stdout, process.stderr]) output.on("error", () => {});

async function run({ server, task, spec }) {
  const farm = connect(server);
  try {
    // With a key a repeated call enqueues nothing twice.
    const { jobId } = await farm.createJob({ taskId: task, spec, idempotencyKey: randomUUID() });
    const end = await follow(farm, jobId);
    if (end.exitCode !== undefined) return end.exitCode;
    const { error } = await farm.getJob({ jobId });
    throw new Error(`job ${jobId} ${end.state} without an exit code: ${error?.message ?? ""}`);
  } finally {
    farm.close();
  }
}

let wanted;
try {
  wanted = parse(process.argv.slice(2));
} catch (error) {
  console.error(`run: ${error.message}; ${USAGE}`);
  process.exit(2);
}
try {
  process.exitCode = await run(wanted);
} catch (error) {
  console.error(`run: ${oneLine(error)}`);
  process.exitCode = OWN_FAILURE;
}
