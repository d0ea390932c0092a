"""How the course's Jupyter server talks to the page: at once, and in few bytes.

Jupyter reads this file where JUPYTER_CONFIG_PATH names its folder, as `make lab` and Binder do.
Nothing depends on it: without it a picture only takes longer to arrive.
"""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Sends every message of a kernel as soon as it is there.

    By default a short message is held back until the one before it was acknowledged (Nagle's
    algorithm), and a browser acknowledges after 40 ms, if it has nothing to say. Each answer to a
    hand is such a pair: that the kernel is busy, then the picture.
    https://www.tornadoweb.org/en/stable/websocket.html#tornado.websocket.WebSocketHandler.set_nodelay
    """

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()


c = get_config()  # noqa: F821 (Jupyter runs this file with that name defined)
c.ServerApp.kernel_websocket_connection_class = PromptConnection
# A picture is text that resembles the one before it: the quickest level leaves an eighth of it.
c.ServerApp.websocket_compression_options = {"compression_level": 1}
load_subconfig("jupyter_nbconvert_config.py")  # noqa: F821 (for the exports of the File menu)
