"""Which kinds of foreign registries there are, and where each is to be found: data that clients fill their forms with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

# In Harbor's spelling and order.
ADAPTERS: Final = (
    "ali-acr",
    "artifact-hub",
    "aws-ecr",
    "azure-acr",
    "docker-hub",
    "docker-registry",
    "dtr",
    "github-ghcr",
    "gitlab",
    "google-gcr",
    "harbor",
    "helm-hub",
    "huawei-SWR",
    "jfrog-artifactory",
    "quay",
    "tencent-tcr",
)

_ALI_REGIONS: Final = [
    "cn-hangzhou",
    "cn-shanghai",
    "cn-qingdao",
    "cn-beijing",
    "cn-zhangjiakou",
    "cn-huhehaote",
    "cn-shenzhen",
    "cn-chengdu",
    "cn-hongkong",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-5",
    "ap-northeast-1",
    "ap-south-1",
    "eu-central-1",
    "eu-west-1",
    "us-west-1",
    "us-east-1",
    "me-east-1",
]
_AWS_REGIONS: Final = [
    "ap-northeast-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ap-east-1",
    "ap-south-1",
    "ap-northeast-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "sa-east-1",
]
_AWS_CHINA_REGIONS: Final = ("cn-north-1", "cn-northwest-1")
_GCR_HOSTS: Final = ("gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io")


def _listed(endpoints: Iterable[tuple[str, str]], *, kind: str = "List") -> dict[str, Any]:
    return {
        "endpoint_type": f"EndpointPatternType{kind}",
        "endpoints": [{"key": key, "value": value} for key, value in endpoints],
    }


def _fixed(host: str) -> dict[str, Any]:
    return {"endpoint_pattern": _listed([(host, f"https://{host}")], kind="Fix"), "credential_pattern": None}


def _key_file(name: str, said: str) -> dict[str, str]:
    return {
        "access_key_type": "AccessKeyTypeFix",
        "access_key_data": name,
        "access_secret_type": "AccessSecretTypeFile",
        "access_secret_data": said,
    }


_AWS_ENDPOINTS: Final = [
    *((region, f"https://api.ecr.{region}.amazonaws.com") for region in _AWS_REGIONS),
    *((region, f"https://api.ecr.{region}.amazonaws.com.cn") for region in _AWS_CHINA_REGIONS),
]

# Of those that have an address or a kind of credential of their own.
ADAPTER_INFOS: Final[Mapping[str, Mapping[str, Any]]] = {
    "ali-acr": {
        "endpoint_pattern": _listed((region, f"https://registry.{region}.aliyuncs.com") for region in _ALI_REGIONS),
        "credential_pattern": None,
    },
    "artifact-hub": _fixed("artifacthub.io"),
    "aws-ecr": {"endpoint_pattern": _listed(_AWS_ENDPOINTS), "credential_pattern": None},
    "docker-hub": _fixed("hub.docker.com"),
    "github-ghcr": _fixed("ghcr.io"),
    "google-gcr": {
        "endpoint_pattern": _listed((host, f"https://{host}") for host in _GCR_HOSTS),
        "credential_pattern": _key_file("_json_key", "No Change"),
    },
    "helm-hub": _fixed("hub.helm.sh"),
    "quay": {
        "endpoint_pattern": {"endpoint_type": "EndpointPatternTypeStandard", "endpoints": None},
        "credential_pattern": _key_file("json_file", ""),
    },
}
