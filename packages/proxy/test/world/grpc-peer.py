"""A gRPC server or client without generated code: `server ADDRESS CERT KEY` or `client TARGET`."""
import sys, time
import grpc


def echo(request, context):
    token = dict(context.invocation_metadata()).get("authorization", "none")
    context.set_trailing_metadata((("x-count", "1"),))
    return request + b" " + token.encode()


def each(requests, context):
    for request in requests:
        yield request.upper()


if sys.argv[1] == "server":
    from concurrent import futures
    address, cert, key = sys.argv[2:5]
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("nono.Echo", {
        "Unary": grpc.unary_unary_rpc_method_handler(echo),
        "Stream": grpc.stream_stream_rpc_method_handler(each),
    }),))
    pair = (open(key, "rb").read(), open(cert, "rb").read())
    server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()
else:
    with grpc.secure_channel(sys.argv[2], grpc.ssl_channel_credentials()) as channel:
        unary = channel.unary_unary("/nono.Echo/Unary")
        answer, call = unary.with_call(b"hello", timeout=20)
        print(answer.decode(), call.code().name, dict(call.trailing_metadata()).get("x-count"))

        def slowly():
            for word in (b"one", b"two", b"three"):
                time.sleep(0.05)
                yield word

        stream = channel.stream_stream("/nono.Echo/Stream")
        print(b" ".join(stream(slowly(), timeout=20)).decode())
        try:
            channel.unary_unary("/nono.Echo/Nothing")(b"", timeout=20)
        except grpc.RpcError as error:
            print(error.code().name)
