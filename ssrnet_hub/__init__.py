from .ssrnet import SSRNet
