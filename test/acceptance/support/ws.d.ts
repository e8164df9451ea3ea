// What the tests use of the package ws, which brings no types: Node 20 has no WebSocket of its own.
declare module "ws" {
  export class WebSocket {
    constructor(address: string, options?: { maxPayload?: number });
    on(event: "message", listener: (data: Uint8Array) => void): void;
    on(event: "close" | "error", listener: () => void): void;
    once(event: "open", listener: () => void): void;
    once(event: "error", listener: (error: Error) => void): void;
    send(text: string, sent: (error?: Error) => void): void;
    terminate(): void;
  }
}
