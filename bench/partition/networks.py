"""Small networks in the style of published pose networks and detectors, with random weights. A builder returns the network and the
prefixes of its parameters' names by module."""
import torch
import torchvision
from torch import nn
from torch.nn import functional as F


def conv(i, o, k=3, s=1, d=1, norm=True, act=True, groups=1):
    layers = [nn.Conv2d(i, o, k, s, d * (k // 2), d, groups, bias=not norm)]
    layers += [nn.BatchNorm2d(o)] if norm else []
    layers += [nn.ReLU()] if act else []
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, i, o, s=1, d=1):
        super().__init__()
        self.a, self.b = conv(i, o, 3, s, d), conv(o, o, 3, 1, d, act=False)
        self.short = conv(i, o, 1, s, act=False) if s > 1 or i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.b(self.a(x)) + self.short(x))


class Darknet(nn.Module):
    """Taps at strides 8, 16 and 32."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = conv(3, width)
        self.stages = nn.ModuleList()
        c = width
        for n in (1, 1, 2, 2, 1):
            units = [conv(c, 2 * c, 3, 2)]
            c *= 2
            units += [DarkUnit(c) for _ in range(n)]
            self.stages.append(nn.Sequential(*units))
        self.channels = [c // 4, c // 2, c]

    def forward(self, x):
        x = self.stem(x)
        taps = []
        for s in self.stages:
            x = s(x)
            taps.append(x)
        return taps[2:]


class DarkUnit(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv(c, c // 2, 1), conv(c // 2, c, 3)

    def forward(self, x):
        return x + self.b(self.a(x))


class ResNet(nn.Module):
    """Taps at strides 4, 8, 16 and 32; with dilation the last two stay at stride 8."""

    def __init__(self, width=16, dilated=False):
        super().__init__()
        self.stem = nn.Sequential(conv(3, width, 7, 2), nn.MaxPool2d(3, 2, 1))
        plan = [(1, 1), (2, 1), (1, 2), (1, 4)] if dilated else [(1, 1), (2, 1), (2, 1), (2, 1)]
        self.layers = nn.ModuleList()
        c, o = width, width
        for s, d in plan:
            self.layers.append(nn.Sequential(Residual(c, o, s, d), Residual(o, o, 1, d)))
            c, o = o, 2 * o
        self.channels = [width, 2 * width, 4 * width, 8 * width]

    def forward(self, x):
        x = self.stem(x)
        taps = []
        for layer in self.layers:
            x = layer(x)
            taps.append(x)
        return taps


class TopDown(nn.Module):
    """Laterals, nearest enlargement, sums, smoothing, two more levels."""

    def __init__(self, channels, c, extra=None):
        super().__init__()
        self.lateral = nn.ModuleList([nn.Conv2d(i, c, 1) for i in channels])
        self.smooth = nn.ModuleList([nn.Conv2d(c, c, 3, 1, 1) for _ in channels])
        self.extra = extra or nn.ModuleList([nn.Conv2d(channels[-1], c, 3, 2, 1), nn.Conv2d(c, c, 3, 2, 1)])

    def forward(self, taps):
        xs = [l(t) for l, t in zip(self.lateral, taps)]
        for i in range(len(xs) - 1, 0, -1):
            xs[i - 1] = xs[i - 1] + F.interpolate(xs[i], scale_factor=2.0)
        out = [s(x) for s, x in zip(self.smooth, xs)]
        p6 = self.extra[0](taps[-1])
        return out + [p6, self.extra[1](F.relu(p6))]


def tower(c, n=2, norm=True):
    layers = []
    for _ in range(n):
        layers += [nn.Conv2d(c, c, 3, 1, 1)] + ([nn.GroupNorm(8, c)] if norm else []) + [nn.ReLU()]
    return nn.Sequential(*layers)


class LevelHead(nn.Module):
    """Class and pose towers that all levels share, and a learned scale per level."""

    def __init__(self, c, levels, poses=16, classes=1):
        super().__init__()
        self.cls_tower, self.pose_tower = tower(c), tower(c)
        self.cls_pred, self.pose_pred = nn.Conv2d(c, classes, 3, 1, 1), nn.Conv2d(c, poses, 3, 1, 1)
        self.scales = nn.Parameter(torch.rand(levels) + 0.5)

    def forward(self, levels):
        out = []
        for i, x in enumerate(levels):
            out += [self.cls_pred(self.cls_tower(x)), self.pose_pred(self.pose_tower(x)) * self.scales[i]]
        return tuple(out)


class WDR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Darknet()
        self.fpn = TopDown(self.backbone.channels, 32)
        self.head = LevelHead(32, 5)

    def forward(self, x):
        return self.head(self.fpn(self.backbone(x)))


class CASpaceNet(nn.Module):
    """Two pyramids with common extra levels; the heads read their differences."""

    def __init__(self):
        super().__init__()
        self.backbone = Darknet()
        self.fpn = TopDown(self.backbone.channels, 32)
        self.fpn_sub = TopDown(self.backbone.channels, 32, self.fpn.extra)
        self.head = LevelHead(32, 5)

    def forward(self, x):
        taps = self.backbone(x)
        return self.head([a - b for a, b in zip(self.fpn(taps), self.fpn_sub(taps))])


class Aspp(nn.Module):
    def __init__(self, i, c):
        super().__init__()
        self.one = conv(i, c, 1)
        self.wide = nn.ModuleList([conv(i, c, 3, 1, d) for d in (2, 4, 6)])
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(i, c, 1))
        self.out = conv(5 * c, c, 1)

    def forward(self, x):
        image = F.interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear")
        return self.out(torch.cat([self.one(x)] + [w(x) for w in self.wide] + [image], 1))


class ZebraDecoder(nn.Module):
    def __init__(self, channels, c=32, bits=16):
        super().__init__()
        self.aspp = Aspp(channels[3], c)
        self.up1 = nn.ConvTranspose2d(c, c, 3, 2, 1, 1)
        self.mix1 = nn.Sequential(conv(c + channels[0], c), conv(c, c))
        self.up2 = nn.ConvTranspose2d(c, c, 3, 2, 1, 1)
        self.mix2 = nn.Sequential(conv(c + channels[0], c), conv(c, c))
        self.pred = nn.Conv2d(c, 1 + bits, 1)

    def forward(self, stem, taps):
        x = self.mix1(torch.cat([F.relu(self.up1(self.aspp(taps[3]))), taps[0]], 1))
        x = self.mix2(torch.cat([F.relu(self.up2(x)), stem], 1))
        y = self.pred(x)
        return y[:, :1], y[:, 1:]


class ZebraPose(nn.Module):
    """A dilated ResNet, ASPP, a decoder with two skips."""

    def __init__(self):
        super().__init__()
        self.backbone = ResNet(dilated=True)
        self.decoder = ZebraDecoder(self.backbone.channels)

    def forward(self, x):
        stem = self.backbone.stem[0](x)
        y = self.backbone.stem[1](stem)
        taps = []
        for layer in self.backbone.layers:
            y = layer(y)
            taps.append(y)
        return self.decoder(stem, taps)


class RotationHead(nn.Module):
    def __init__(self, i, c=32, out=20):
        super().__init__()
        layers = [nn.ConvTranspose2d(i, c, 3, 2, 1, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        for k in range(3):
            layers += [nn.UpsamplingBilinear2d(scale_factor=2)] if k else []
            layers += [conv(c, c), conv(c, c)]
        self.features = nn.Sequential(*layers, nn.Conv2d(c, out, 1))

    def forward(self, x):
        return self.features(x)


class ConvPnP(nn.Module):
    def __init__(self, i, side, c=32):
        super().__init__()
        layers = []
        for k in range(3):
            layers += [nn.Conv2d(c if k else i, c, 3, 2, 1, bias=False), nn.GroupNorm(8, c), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.fc1, self.fc2 = nn.Linear(c * (side // 8) ** 2, 128), nn.Linear(128, 64)
        self.fc_r, self.fc_t = nn.Linear(64, 6), nn.Linear(64, 3)

    def forward(self, x):
        x = self.features(x).flatten(1)
        x = F.leaky_relu(self.fc2(F.leaky_relu(self.fc1(x), 0.1)), 0.1)
        return self.fc_r(x), self.fc_t(x)


class GDRNet(nn.Module):
    """Down to a code, up to dense coordinates, down again to a pose."""

    def __init__(self, side):
        super().__init__()
        self.backbone = ResNet()
        self.rot_head = RotationHead(self.backbone.channels[-1])
        self.pnp_net = ConvPnP(19 + 2, side // 4)
        y, x = torch.meshgrid(torch.linspace(0, 1, side // 4), torch.linspace(0, 1, side // 4), indexing="ij")
        self.register_buffer("grid", torch.stack([x, y])[None])

    def forward(self, x):
        y = self.rot_head(self.backbone(x)[-1])
        mask, xyz, region = y[:, :1], y[:, 1:4], y[:, 4:]
        rot, t = self.pnp_net(torch.cat([xyz, self.grid.expand(x.shape[0], -1, -1, -1), region.softmax(1)], 1))
        return mask, xyz, region, rot, t


class PyraPose(nn.Module):
    """A pyramid that goes up, down and up again, three heads."""

    def __init__(self, c=32):
        super().__init__()
        self.backbone = ResNet()
        ch = self.backbone.channels[1:]
        self.fpn = nn.ModuleDict(
            dict(
                lateral=nn.ModuleList([nn.Conv2d(i, c, 1) for i in ch]),
                top=nn.ModuleList([nn.Conv2d(c, c, 3, 1, 1) for _ in range(3)]),
                down=nn.ModuleList([nn.Conv2d(c, c, 3, 2, 1) for _ in range(2)]),
                smooth=nn.ModuleList([nn.Conv2d(c, c, 3, 1, 1) for _ in range(3)]),
            )
        )
        self.boxes = nn.Sequential(tower(c, 3, False), nn.Conv2d(c, 16, 3, 1, 1))
        self.cls = nn.Sequential(tower(c, 3, False), nn.Conv2d(c, 5, 3, 1, 1))
        self.mask = nn.Sequential(tower(c, 2, False), nn.Conv2d(c, 5, 3, 1, 1))

    def forward(self, x):
        taps = self.backbone(x)[1:]
        f = self.fpn
        xs = [l(t) for l, t in zip(f["lateral"], taps)]
        for i in (1, 0):
            xs[i] = xs[i] + F.interpolate(xs[i + 1], scale_factor=2.0)
        xs = [s(v) for s, v in zip(f["top"], xs)]
        for i in (1, 2):
            xs[i] = xs[i] + f["down"][i - 1](xs[i - 1])
        xs = [s(v) for s, v in zip(f["smooth"], xs)]
        flat = lambda y, k: y.permute(0, 2, 3, 1).reshape(y.shape[0], -1, k)
        boxes = torch.cat([flat(self.boxes(v), 16) for v in xs], 1)
        classes = torch.cat([flat(self.cls(v), 5) for v in xs], 1).sigmoid()
        return boxes, classes, self.mask(xs[0]).sigmoid()


class MBConv(nn.Module):
    def __init__(self, i, o, s, k=3):
        super().__init__()
        e = 4 * i
        self.expand, self.depth = conv(i, e, 1, act=False), conv(e, e, k, s, act=False, groups=e)
        self.reduce, self.grow = nn.Conv2d(e, i, 1), nn.Conv2d(i, e, 1)
        self.project = conv(e, o, 1, act=False)
        self.skip = s == 1 and i == o

    def forward(self, x):
        y = F.silu(self.depth(F.silu(self.expand(x))))
        y = y * torch.sigmoid(self.grow(F.silu(self.reduce(F.adaptive_avg_pool2d(y, 1)))))
        y = self.project(y)
        return x + y if self.skip else y


class Separable(nn.Module):
    def __init__(self, c, o=None, norm=True):
        super().__init__()
        self.depth, self.point = nn.Conv2d(c, c, 3, 1, 1, groups=c, bias=False), nn.Conv2d(c, o or c, 1)
        self.norm = nn.BatchNorm2d(o or c) if norm else nn.Identity()

    def forward(self, x):
        return self.norm(self.point(self.depth(x)))


class BiFPNCell(nn.Module):
    def __init__(self, c, levels=5):
        super().__init__()
        self.w_up = nn.Parameter(torch.rand(levels - 1, 2) + 0.5)
        self.w_down = nn.Parameter(torch.rand(levels - 1, 3) + 0.5)
        self.up = nn.ModuleList([Separable(c) for _ in range(levels - 1)])
        self.down = nn.ModuleList([Separable(c) for _ in range(levels - 1)])

    def forward(self, xs):
        wu, wd = F.relu(self.w_up), F.relu(self.w_down)
        wu, wd = wu / (wu.sum(1, keepdim=True) + 1e-4), wd / (wd.sum(1, keepdim=True) + 1e-4)
        n = len(xs)
        mid = list(xs)
        for i in range(n - 2, -1, -1):
            mid[i] = self.up[i](F.silu(wu[i, 0] * xs[i] + wu[i, 1] * F.interpolate(mid[i + 1], scale_factor=2.0)))
        out = [mid[0]]
        for i in range(1, n):
            below = F.max_pool2d(out[-1], 3, 2, 1)
            w = wd[i - 1]
            y = w[0] * xs[i] + w[1] * mid[i] + w[2] * below if i < n - 1 else w[0] * xs[i] + w[1] * below
            out.append(self.down[i - 1](F.silu(y)))
        return out


class BiFPN(nn.Module):
    def __init__(self, channels, c, cells=3):
        super().__init__()
        self.lateral = nn.ModuleList([conv(i, c, 1, act=False) for i in channels])
        self.p6 = nn.Sequential(conv(channels[-1], c, 1, act=False), nn.MaxPool2d(3, 2, 1))
        self.p7 = nn.MaxPool2d(3, 2, 1)
        self.cells = nn.ModuleList([BiFPNCell(c) for _ in range(cells)])

    def forward(self, taps):
        xs = [l(t) for l, t in zip(self.lateral, taps)]
        xs.append(self.p6(taps[-1]))
        xs.append(self.p7(xs[-1]))
        for cell in self.cells:
            xs = cell(xs)
        return xs


class SeparableHead(nn.Module):
    """Convolutions that the levels share, normalizations that they do not."""

    def __init__(self, c, out, levels=5, depth=3):
        super().__init__()
        self.convs = nn.ModuleList([Separable(c, norm=False) for _ in range(depth)])
        self.norms = nn.ModuleList([nn.ModuleList([nn.BatchNorm2d(c) for _ in range(depth)]) for _ in range(levels)])
        self.header = Separable(c, out, norm=False)

    def forward(self, xs):
        out = []
        for x, norms in zip(xs, self.norms):
            for c, n in zip(self.convs, norms):
                x = F.silu(n(c(x)))
            out.append(self.header(x).permute(0, 2, 3, 1).flatten(1))
        return torch.cat(out, 1)


class EfficientDet(nn.Module):
    def __init__(self, c=32):
        super().__init__()
        self.stem = conv(3, 16, 3, 2, act=False)
        self.stages = nn.ModuleList()
        i = 16
        for o, s, n in ((16, 2, 1), (24, 2, 2), (40, 2, 2), (80, 2, 2)):
            self.stages.append(nn.Sequential(*[MBConv(i if k == 0 else o, o, s if k == 0 else 1) for k in range(n)]))
            i = o
        self.bifpn = BiFPN([24, 40, 80], c)
        self.regressor, self.classifier = SeparableHead(c, 36), SeparableHead(c, 45)

    def forward(self, x):
        x = F.silu(self.stem(x))
        taps = []
        for s in self.stages:
            x = s(x)
            taps.append(x)
        xs = self.bifpn(taps[1:])
        return self.regressor(xs), self.classifier(xs).sigmoid()


class PanDetector(nn.Module):
    """Top-down and bottom-up aggregation with concatenations, one decoupled head per level."""

    def __init__(self, c=32, classes=4):
        super().__init__()
        self.backbone = Darknet()
        a, b, d = self.backbone.channels
        self.neck = nn.ModuleDict(
            dict(
                r5=conv(d, b, 1), u4=CSP(2 * b, b), r4=conv(b, a, 1), u3=CSP(2 * a, a),
                d3=conv(a, a, 3, 2), n4=CSP(2 * a, b), d4=conv(b, b, 3, 2), n5=CSP(2 * b, d),
            )
        )
        self.stems = nn.ModuleList([conv(i, c, 1) for i in (a, b, d)])
        self.cls = nn.ModuleList([nn.Sequential(conv(c, c), conv(c, c), nn.Conv2d(c, classes, 1)) for _ in range(3)])
        self.reg = nn.ModuleList([nn.Sequential(conv(c, c), conv(c, c), nn.Conv2d(c, 5, 1)) for _ in range(3)])

    def forward(self, x):
        c3, c4, c5 = self.backbone(x)
        n = self.neck
        r5 = n["r5"](c5)
        r4 = n["r4"](n["u4"](torch.cat([F.interpolate(r5, scale_factor=2.0), c4], 1)))
        p3 = n["u3"](torch.cat([F.interpolate(r4, scale_factor=2.0), c3], 1))
        p4 = n["n4"](torch.cat([n["d3"](p3), r4], 1))
        p5 = n["n5"](torch.cat([n["d4"](p4), r5], 1))
        out = []
        for x, s, cls, reg in zip((p3, p4, p5), self.stems, self.cls, self.reg):
            x = s(x)
            out.append(torch.cat([reg(x), cls(x)], 1).flatten(2))
        return torch.cat(out, 2)


class CSP(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.a, self.b = conv(i, o // 2, 1), conv(i, o // 2, 1)
        self.unit, self.out = nn.Sequential(conv(o // 2, o // 2, 1), conv(o // 2, o // 2)), conv(o, o, 1)

    def forward(self, x):
        return self.out(torch.cat([self.unit(self.a(x)), self.b(x)], 1))


class UNet(nn.Module):
    """Pairs of convolutions down to a bottleneck and up again, with a skip at every stride."""

    def __init__(self, c=16, depth=4, out=5):
        super().__init__()
        pair = lambda i, o: nn.Sequential(conv(i, o), conv(o, o))
        widths = [c << k for k in range(depth + 1)]
        self.encoder = nn.ModuleList([pair(i, o) for i, o in zip([3] + widths, widths)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * o, o, 2, 2) for o in widths[-2::-1]])
        self.mix = nn.ModuleList([pair(2 * o, o) for o in widths[-2::-1]])
        self.out = nn.Conv2d(c, out, 1)

    def forward(self, x):
        taps = []
        for k, e in enumerate(self.encoder):
            x = e(F.max_pool2d(x, 2) if k else x)
            taps.append(x)
        for up, mix, skip in zip(self.up, self.mix, taps[-2::-1]):
            x = mix(torch.cat([skip, up(x)], 1))
        return self.out(x)


def deconvolutions(i, c):
    layers = []
    for _ in range(3):
        layers += [nn.ConvTranspose2d(i, c, 4, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU()]
        i = c
    return nn.Sequential(*layers)


class CenterNet(nn.Module):
    """Three transposed convolutions, then one small tower for each output."""

    def __init__(self, c=32):
        super().__init__()
        self.backbone = ResNet()
        self.deconv = deconvolutions(self.backbone.channels[-1], c)
        self.heads = nn.ModuleList([nn.Sequential(conv(c, 24, norm=False), nn.Conv2d(24, o, 1)) for o in (3, 2, 16)])

    def forward(self, x):
        y = self.deconv(self.backbone(x)[-1])
        return tuple(h(y) for h in self.heads)


class PoseBaseline(nn.Module):
    """Transposed convolutions and one layer of heat maps."""

    def __init__(self, c=32):
        super().__init__()
        self.backbone = ResNet()
        self.deconv, self.final = deconvolutions(self.backbone.channels[-1], c), nn.Conv2d(c, 17, 1)

    def forward(self, x):
        return self.final(self.deconv(self.backbone(x)[-1]))


class PVNet(nn.Module):
    """A ResNet of stride 8 with a reducing layer, one layer and a skip for each enlargement, the image itself being the last skip."""

    def __init__(self, c=32, out=20):
        super().__init__()
        self.resnet = ResNet(dilated=True)
        skips = [self.resnet.channels[1], self.resnet.channels[0], self.resnet.stem[0][0].out_channels, 3]
        self.fc = conv(self.resnet.channels[3], c)
        self.mix = nn.ModuleList([conv(c + s, c) for s in skips])
        self.last = nn.Conv2d(c, out, 1)

    def forward(self, image):
        stem = self.resnet.stem[0](image)
        y, taps = self.resnet.stem[1](stem), []
        for layer in self.resnet.layers:
            y = layer(y)
            taps.append(y)
        y = self.fc(y)
        for mix, skip in zip(self.mix, (taps[1], taps[0], stem, image)):
            if skip.shape[2] != y.shape[2]:
                y = F.interpolate(y, size=skip.shape[2:], mode="bilinear")
            y = mix(torch.cat([y, skip], 1))
        y = self.last(y)
        return y[:, :2], y[:, 2:]


class CDPN(nn.Module):
    """Dense coordinates for the rotation, a translation from the code itself."""

    def __init__(self, side, c=32):
        super().__init__()
        self.backbone = ResNet()
        k = self.backbone.channels[-1]
        self.rot_head = RotationHead(k)
        self.trans_conv = nn.Sequential(conv(k, c), conv(c, c), conv(c, c))
        self.trans_fc = nn.Sequential(nn.Linear(c * (side // 32) ** 2, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, x):
        code = self.backbone(x)[-1]
        return self.rot_head(code), self.trans_fc(self.trans_conv(code).flatten(1))


class DeepLabPlus(nn.Module):
    """ASPP, and one finer map beside its enlarged result."""

    def __init__(self, c=32, out=7):
        super().__init__()
        self.backbone = ResNet(dilated=True)
        self.aspp = Aspp(self.backbone.channels[3], c)
        self.low = conv(self.backbone.channels[0], 12, 1)
        self.mix = nn.Sequential(conv(c + 12, c), conv(c, c), nn.Conv2d(c, out, 1))

    def forward(self, x):
        taps = self.backbone(x)
        low = self.low(taps[0])
        y = F.interpolate(self.aspp(taps[3]), size=low.shape[2:], mode="bilinear")
        return F.interpolate(self.mix(torch.cat([y, low], 1)), scale_factor=4.0, mode="bilinear")


class TwoStages(nn.Module):
    """Proposals from all levels, the best of which are cut out of the finest; no suppression, which today's exporter refuses."""

    def __init__(self, side, c=32, kept=20):
        super().__init__()
        self.backbone = ResNet()
        self.fpn = TopDown(self.backbone.channels, c)
        self.rpn = nn.ModuleDict(dict(conv=nn.Conv2d(c, c, 3, 1, 1), score=nn.Conv2d(c, 1, 1), delta=nn.Conv2d(c, 4, 1)))
        self.roi_heads = nn.ModuleDict(
            dict(fc1=nn.Linear(c * 49, 64), fc2=nn.Linear(64, 64), cls=nn.Linear(64, 6), box=nn.Linear(64, 20))
        )
        self.kept, self.side = kept, side

    def forward(self, x):
        levels = self.fpn(self.backbone(x))
        scores, boxes = [], []
        for p in levels:
            t = F.relu(self.rpn["conv"](p))
            scores.append(self.rpn["score"](t)[0].flatten())
            boxes.append(self.rpn["delta"](t)[0].flatten(1).t())
        best = torch.cat(scores).topk(self.kept)[1]
        corner, size = torch.cat(boxes)[best].sigmoid().split(2, 1)
        boxes = self.side / 2 * torch.cat([corner, corner + size], 1)
        rois = torch.cat([torch.zeros(self.kept, 1), boxes], 1)
        y = torchvision.ops.roi_align(levels[0], rois, 7, 0.25, 2).flatten(1)
        h = self.roi_heads
        y = F.relu(h["fc2"](F.relu(h["fc1"](y))))
        return boxes, h["cls"](y).softmax(1), h["box"](y)


class SPPF(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv(c, c // 2, 1), conv(2 * c, c, 1)

    def forward(self, x):
        xs = [self.a(x)]
        for _ in range(3):
            xs.append(F.max_pool2d(xs[-1], 5, 1, 2))
        return self.b(torch.cat(xs, 1))


class YOLO(nn.Module):
    """SiLU, pyramid pooling at the end of the backbone, path aggregation, one layer per level as head."""

    def __init__(self, c=16, out=24):
        super().__init__()
        widths = [c << k for k in range(1, 5)]
        self.stem = conv(3, c, 6, 2)
        self.stem[0].padding = (2, 2)
        self.stages = nn.ModuleList([nn.Sequential(conv(i, o, 3, 2), CSP(o, o)) for i, o in zip([c] + widths, widths)])
        self.sppf = SPPF(widths[3])
        _, a, b, d = widths
        self.neck = nn.ModuleDict(
            dict(
                r5=conv(d, b, 1), u4=CSP(2 * b, b), r4=conv(b, a, 1), u3=CSP(2 * a, a),
                d3=conv(a, a, 3, 2), n4=CSP(2 * a, b), d4=conv(b, b, 3, 2), n5=CSP(2 * b, d),
            )
        )
        self.detect = nn.ModuleList([nn.Conv2d(i, out, 1) for i in (a, b, d)])
        for m in self.modules():
            for k, child in m.named_children():
                if isinstance(child, nn.ReLU):
                    setattr(m, k, nn.SiLU())

    def forward(self, x):
        x, taps = self.stem(x), []
        for s in self.stages:
            x = s(x)
            taps.append(x)
        c3, c4, c5 = taps[1], taps[2], self.sppf(x)
        n = self.neck
        r5 = n["r5"](c5)
        r4 = n["r4"](n["u4"](torch.cat([F.interpolate(r5, scale_factor=2.0), c4], 1)))
        p3 = n["u3"](torch.cat([F.interpolate(r4, scale_factor=2.0), c3], 1))
        p4 = n["n4"](torch.cat([n["d3"](p3), r4], 1))
        p5 = n["n5"](torch.cat([n["d4"](p4), r5], 1))
        return tuple(d(p) for d, p in zip(self.detect, (p3, p4, p5)))


NETWORKS = {
    # name: (builder, side, {module: prefixes})
    "wdr": (WDR, 256, dict(backbone=["backbone"], fpn=["fpn"], head=["head"])),
    "caspacenet": (CASpaceNet, 256, dict(backbone=["backbone"], fpn=["fpn", "fpn_sub"], head=["head"])),
    "zebrapose": (ZebraPose, 128, dict(backbone=["backbone"], decoder=["decoder"])),
    "gdrnet": (lambda: GDRNet(128), 128, dict(backbone=["backbone"], rotation=["rot_head"], pnp=["pnp_net"])),
    "pyrapose": (PyraPose, 128, dict(backbone=["backbone"], fpn=["fpn"], head=["boxes", "cls", "mask"])),
    "efficientdet": (EfficientDet, 256, dict(backbone=["stem", "stages"], fpn=["bifpn"], head=["regressor", "classifier"])),
    "unet": (UNet, 128, dict(backbone=["encoder"], decoder=["up", "mix", "out"])),
    "centernet": (CenterNet, 128, dict(backbone=["backbone"], decoder=["deconv"], head=["heads"])),
    "posebaseline": (PoseBaseline, 128, dict(backbone=["backbone"], decoder=["deconv", "final"])),
    "pvnet": (PVNet, 128, dict(backbone=["resnet", "fc"], decoder=["mix", "last"])),
    "cdpn": (lambda: CDPN(128), 128, dict(backbone=["backbone"], decoder=["rot_head"], head=["trans_conv", "trans_fc"])),
    "deeplabplus": (DeepLabPlus, 128, dict(backbone=["backbone"], decoder=["aspp", "low", "mix"])),
    "twostages": (lambda: TwoStages(128), 128, dict(backbone=["backbone"], fpn=["fpn"], rpn=["rpn"], roi=["roi_heads"])),
    "yolo": (YOLO, 256, dict(backbone=["stem", "stages", "sppf"], fpn=["neck"], head=["detect"])),
    "pan": (PanDetector, 128, dict(backbone=["backbone"], fpn=["neck"], head=["stems", "cls", "reg"])),
}
