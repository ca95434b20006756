"""The files of CIFAR-10 and CIFAR-100 as their authors publish them."""

from __future__ import annotations

from dataclasses import dataclass

from lq_utils.images import DataError


@dataclass(frozen=True)
class Layout:
    """Files of one data set, with the checksums of the original archive.

    Introduced in chapter 1.
    """

    name: str
    folder: str
    title: str
    train: dict[str, str]  # file name -> MD5
    test: dict[str, str]
    meta: dict[str, str]
    labels: str
    names: str
    classes: int
    train_images: int
    test_images: int
    url: str
    archive_md5: str
    archive_bytes: int

    @property
    def files(self) -> dict[str, str]:
        """All files with their MD5."""
        return {**self.meta, **self.train, **self.test}


HOST = "https://www.cs.toronto.edu/~kriz/"
LAYOUTS = {
    "cifar10": Layout(
        name="cifar10",
        folder="cifar-10-batches-py",
        title="CIFAR-10",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
        labels="labels",
        names="label_names",
        classes=10,
        train_images=50_000,
        test_images=10_000,
        url=HOST + "cifar-10-python.tar.gz",
        archive_md5="c58f30108f718f92721af3b95e74349a",
        archive_bytes=170_498_071,
    ),
    "cifar100": Layout(
        name="cifar100",
        folder="cifar-100-python",
        title="CIFAR-100",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
        labels="fine_labels",
        names="fine_label_names",
        classes=100,
        train_images=50_000,
        test_images=10_000,
        url=HOST + "cifar-100-python.tar.gz",
        archive_md5="eb9058c3a382ffc7106e4002c42a8d85",
        archive_bytes=169_001_437,
    ),
}


def layout_of(name: str) -> Layout:
    """The layout of ``cifar10`` or ``cifar100``.

    Raises:
        DataError: another name.

    Introduced in chapter 1.
    """
    if name not in LAYOUTS:
        raise DataError(f"{name!r}: use {' or '.join(LAYOUTS)}")
    return LAYOUTS[name]
