-- wrk's request: one POST with the file named by BODY, and the headers in HEADERS ("name: value", one a line).
local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = file:read("*a")
file:close()
wrk.method = "POST"
for name, value in string.gmatch(os.getenv("HEADERS") or "", "([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

function done(summary, latency, requests)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    'RESULT {"photos": %d, "seconds": %.6f, "failed": %d, "refused": %d, "p50": %.6f, "p95": %.6f, "p99": %.6f}\n',
    summary.requests, summary.duration / 1e6, failed, summary.errors.status,
    latency:percentile(50) / 1e6, latency:percentile(95) / 1e6, latency:percentile(99) / 1e6))
end
