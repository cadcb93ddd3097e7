// Two nested spans over one OTLP transport: node client.js <http/protobuf|http/json|grpc> <endpoint> <service>
const { SpanStatusCode, trace } = require("@opentelemetry/api");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { NodeTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-node");

const [protocol, endpoint, service] = process.argv.slice(2);
const exporters = {
  "http/protobuf": () => new (require("@opentelemetry/exporter-trace-otlp-proto").OTLPTraceExporter)({ url: `${endpoint}/v1/traces` }),
  "http/json": () => new (require("@opentelemetry/exporter-trace-otlp-http").OTLPTraceExporter)({ url: `${endpoint}/v1/traces` }),
  grpc: () => new (require("@opentelemetry/exporter-trace-otlp-grpc").OTLPTraceExporter)({ url: endpoint }),
};
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": service }),
  spanProcessors: [new BatchSpanProcessor(exporters[protocol]())],
});
provider.register();
const tracer = trace.getTracer("shop");
tracer.startActiveSpan("checkout", (root) => {
  root.setAttributes({ "cart.items": 3, "cart.total": 59.5, "cart.gift": true, "cart.tags": ["a", "b"] });
  tracer.startActiveSpan("charge card", (child) => {
    child.recordException(new Error("declined"));
    child.setStatus({ code: SpanStatusCode.ERROR, message: "declined" });
    child.end();
  });
  root.end();
});
provider.shutdown().then(() => console.log("sent"));
