/** ONNX Runtime for browsers, in WebAssembly. The page has another file in this one's place, which names its own copy. */
export { env, InferenceSession, Tensor } from 'onnxruntime-web/wasm';
