// EasyQ's API from its protos, which are read when this module is loaded: no code is generated.
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTOS = process.env.EASYQ_PROTOS ?? fileURLToPath(new URL("../../protos", import.meta.url));

const definition = loadSync(["easyq/v1/job_service.proto", "easyq/v1/log_service.proto"], {
  includeDirs: [PROTOS, path.join(PROTOS, "third_party")],
  // Offsets are 64 bits wide. As a Number each is exact up to 2^53, which is more than any output has.
  longs: Number,
  enums: String,
  oneofs: true,
  defaults: true,
});
const { JobService, LogService } = grpc.loadPackageDefinition(definition).easyq.v1;

// Calls that may be repeated without harm are, for about 1.5 s, while the server can't be reached.
const repeats = {
  methodConfig: [
    {
      name: [
        { service: "easyq.v1.JobService", method: "CreateJob" },
        { service: "easyq.v1.JobService", method: "GetJob" },
      ],
      timeout: "30s",
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: "0.2s",
        maxBackoff: "2s",
        backoffMultiplier: 2,
        retryableStatusCodes: ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
      },
    },
  ],
};

/** Clients of one farm; `server` is host:port. Unary calls give promises, streams can be iterated. */
export function connect(server) {
  const credentials = grpc.credentials.createInsecure();
  const options = { "grpc.service_config": JSON.stringify(repeats) };
  const jobs = new JobService(server, credentials, options);
  const logs = new LogService(server, credentials);
  return {
    createJob: promisify(jobs.createJob).bind(jobs),
    getJob: promisify(jobs.getJob).bind(jobs),
    followLogs: (request) => logs.followLogs(request),
    close: () => [jobs, logs].forEach((client) => client.close()),
  };
}

/**
 * Whether a stream that failed may go on where it was: the connection broke, or (RESOURCE_EXHAUSTED) the server let a
 * reader go that took nothing for a minute, or has too many of them.
 */
export const isBreak = (error) => [grpc.status.UNAVAILABLE, grpc.status.RESOURCE_EXHAUSTED].includes(error.code);

/** What went wrong, in one line. */
export function oneLine(error) {
  const name = Object.keys(grpc.status).find((key) => grpc.status[key] === error.code);
  const text = String(error.details || error.message).split(/\s+/).join(" ");
  return name ? `${name}: ${text}` : text;
}
