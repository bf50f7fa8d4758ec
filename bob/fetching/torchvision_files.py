"""Addresses and digests that torchvision's own downloaders hold."""

from __future__ import annotations

from bob.errors import BobError, unknown


def published(name: str) -> tuple[str, str]:
    """Address and MD5 of a file that torchvision fetches; each is empty where it has none.

    Args:
        name: ``CLASS``, or ``CLASS/FILE`` where the class fetches several.

    Raises:
        BobError: torchvision is not as expected, or does not know the file.
    """
    owner, _, wanted = name.partition("/")
    try:
        files = _files(owner)
    except (AttributeError, KeyError, ImportError) as error:
        raise BobError(
            f"torchvision's {owner} does not say where it is fetched from ({error}). Fetch it by "
            "hand, or report the version of torchvision."
        ) from None
    if not wanted and len(files) == 1:
        return next(iter(files.values()))
    if wanted not in files:
        raise unknown(f"file of torchvision's {owner}", wanted, files)
    return files[wanted]


def _files(owner: str) -> dict[str, tuple[str, str]]:
    from torchvision import datasets
    from torchvision.datasets import inaturalist

    if owner == "INaturalist":
        return {
            version: (url, inaturalist.DATASET_MD5[version])
            for version, url in inaturalist.DATASET_URLS.items()
        }
    made = getattr(datasets, owner)
    if owner in ("CIFAR10", "CIFAR100"):
        return {made.filename: (made.url, made.tgz_md5)}
    if owner == "Flowers102":
        prefix = made._download_url_prefix
        return {name: (prefix + name, md5) for name, md5 in made._file_dict.values()}
    if owner == "FashionMNIST":
        return {name: (made.mirrors[0] + name, md5) for name, md5 in made.resources}
    if owner == "OxfordIIITPet":
        return {url.rsplit("/", 1)[1]: (url, md5) for url, md5 in made._RESOURCES}
    if owner == "PCAM":  # kept on a drive that has no plain address
        parts = (part for split in made._FILES.values() for part in split.values())
        return {f"{name}.gz": ("", md5) for name, _, md5 in parts}
    if owner == "SUN397":
        return {"": (made._DATASET_URL, made._DATASET_MD5)}
    return {"": (made._URL, getattr(made, "_MD5", ""))}
