"""Addresses and published digests of dataset files, from their pages and from public loaders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tmkt_data.errors import CatalogueError
from tmkt_data.files import file_digest


@dataclass(frozen=True)
class Download:
    """One file of a dataset.

    Attributes:
        name: File name to store it under.
        md5: Published MD5; `""` if there is none.
        urls: Addresses, tried in turn; empty if it must be downloaded by hand.
        folder: Folder below the root that it belongs in or unpacks into.
        sha256: Published SHA-256, in place of an MD5.
        is_needed: Whether `download` fetches it; others are extras or the same data in another archive, listed so that
            they are verified when found.
        holds_others: Whether nested archives reuse the names of other files with different content.
    """

    name: str
    md5: str = ""
    urls: tuple[str, ...] = ()
    folder: str = "."
    sha256: str = ""
    is_needed: bool = True
    holds_others: bool = False

    @property
    def published(self) -> tuple[str, str]:
        """Algorithm and digest as published; `("", "")` if there is none."""
        if self.md5:
            return "md5", self.md5
        return ("sha256", self.sha256) if self.sha256 else ("", "")


_MENDELEY = "https://data.mendeley.com/public-files/datasets/cy6cvx3ryv/files/36b5c52a-b49d-4853-addb-a836a8883e49/file_downloaded"
_EST = "http://rpg.ifi.uzh.ch/datasets/gehrig_et_al_iccv19/N-Caltech101.zip"
_FIGSHARE = "https://ndownloader.figshare.com/files/"
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
_FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
_OMNIGLOT = "https://github.com/brendenlake/omniglot/raw/master/python/"
_CALTECH = Download(
    "caltech-101.zip",
    "3138e1922a9193bfa496528edbbc45d0",
    ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
)
_CIFAR10_DVS = {
    "airplane": (7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
    "automobile": (7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
    "bird": (7712794, "a9c207c91c55b9dc2002dc21c684d785"),
    "cat": (7712812, "52c63c677c2b15fa5146a8daf4d56687"),
    "deer": (7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
    "dog": (7712818, "f379ebdf6703d16e0a690782e62639c3"),
    "frog": (7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
    "horse": (7712851, "e7cbbf77bec584ffbf913f00e682782a"),
    "ship": (7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
    "truck": (7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
}


def _idx(bases: tuple[str, ...], folder: str, sums: tuple[str, str, str, str]) -> tuple[Download, ...]:
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return tuple(
        Download(name, md5, tuple(base + name for base in bases), folder) for name, md5 in zip(names, sums, strict=True)
    )


DOWNLOADS: dict[str, tuple[Download, ...]] = {
    "ncaltech101": (
        Download("Caltech101.zip", "66201824eabb0239c7ab992480b50ba3", (_MENDELEY,)),
        _CALTECH,
        Download("N-Caltech101-archive.zip", "66201824eabb0239c7ab992480b50ba3", is_needed=False),
        Download("Caltech101_annotations.zip", "25e64cea645291e368db1e70f214988e", is_needed=False),
        Download(
            "cy6cvx3ryv-1.zip",
            sha256="5cf34932049665c4740c7c3fa126bc6b8a5e007691fdd3a4e3171d30f8908930",
            is_needed=False,
        ),
        Download("N-Caltech101.zip", urls=(_EST,), is_needed=False),
    ),
    "caltech101-twins": (_CALTECH,),
    "nmnist": (
        Download("Train.zip", "20959b8e626244a1b502305a9e6e2031", (), "N-MNIST"),
        Download("Test.zip", "69ca8762b2fe404d9b9bad1103e97832", (), "N-MNIST"),
        *_idx(
            _MNIST,
            "MNIST",
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
    ),
    "nomniglot": tuple(
        Download(f"{name}.zip", md5, (f"{_OMNIGLOT}{name}.zip",), "omniglot-py")
        for name, md5 in (
            ("images_background", "68d2efa1b9178cc56df9314c21c6e718"),
            ("images_evaluation", "6b91aef0f799c5bb55b94e3f2daec811"),
        )
    ),
    "cifar10dvs": (
        *(
            Download(f"{name}.zip", md5, (f"{_FIGSHARE}{number}",), "CIFAR10DVS")
            for name, (number, md5) in _CIFAR10_DVS.items()
        ),
        Download(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        ),
        Download(
            "CIFAR10DVS.zip",
            "ce3a4a0682dc0943703bd8f749a7701c",
            (f"{_FIGSHARE}38023437",),
            "CIFAR10DVS",
            is_needed=False,
            holds_others=True,
        ),
    ),
    "dvsgesture": (
        Download("DvsGesture.tar.gz", "8a5c71fb11e24e5ca5b11866ca6c00a1"),
        Download("ibmGestureTrain.tar.gz", "3a8f0d4120a166bac7591f77409cb105", is_needed=False),
        Download("ibmGestureTest.tar.gz", "56070e45dadaa85fff82e0fbfbc06de5", is_needed=False),
    ),
    "fashion": _idx(
        _FASHION,
        "fashion-mnist",
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
}
"""Files of each dataset. CEP-DVS, N-Omniglot's recordings and ES-ImageNet can only be downloaded by hand."""


def known_file(dataset: str, name: str) -> Download | None:
    """Return the entry of a file name, or None if it is unknown."""
    return next((entry for entry in DOWNLOADS.get(dataset, ()) if entry.name == name), None)


def check_known(dataset: str, path: Path) -> str | None:
    """Verify a file against its published digest.

    Returns:
        Algorithm and digest, such as `"md5 3138e1922a91..."`; None if no digest is published for this name.

    Raises:
        CatalogueError: The digest differs.
    """
    known = known_file(dataset, path.name)
    algorithm, expected = known.published if known is not None else ("", "")
    if not algorithm:
        return None
    found = file_digest(path, algorithm, error=CatalogueError)
    if found != expected:
        raise CatalogueError(
            f"{path.name}: {algorithm} {found}, expected {expected}; it is damaged or another version, fetch it again "
            "or unpack it yourself"
        )
    return f"{algorithm} {found}"


def check_inside(dataset: str, archive: Path, inner: Path) -> str | None:
    """Verify a file unpacked from an archive against its published digest; see `check_known`."""
    outer = known_file(dataset, archive.name)
    return None if outer is not None and outer.holds_others else check_known(dataset, inner)
