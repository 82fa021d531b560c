"""The driver's GraphQL queries. They are constant: values are passed as variables.

Follows: zot's GraphQL schema.
"""

_MANIFEST = (
    "Digest ConfigDigest LastUpdated Size IsSigned Platform{Os Arch} DownloadCount "
    "Layers{Digest Size} ArtifactType"
)
_COUNTS = "MaxSeverity Count UnknownCount LowCount MediumCount HighCount CriticalCount"
_IMAGE = (
    "RepoName Tag Digest MediaType ArtifactType Size DownloadCount LastPullTimestamp "
    "PushTimestamp PushedBy TaggedTimestamp LastUpdated IsSigned "
    f"SignatureInfo{{Tool IsTrusted Author}} Manifests{{{_MANIFEST}}} "
    "Referrers{MediaType ArtifactType Size Digest Annotations{Key Value}} "
    f"Vulnerabilities{{{_COUNTS}}} "
    "Title Description Licenses Labels Source Documentation Vendor Authors"
)
_REPOSITORY = (
    "Name LastUpdated Size Platforms{Os Arch} Vendors DownloadCount StarCount IsBookmarked "
    f"IsStarred Rank NewestImage{{{_IMAGE}}}"
)
_PAGE = "Page{TotalCount ItemCount}"
_CVE = (
    "Id Title Description Reference Severity "
    "PackageList{Name PackagePath InstalledVersion FixedVersion}"
)

GLOBAL_SEARCH = (
    "query($text:String!,$page:PageInput){GlobalSearch(query:$text,requestedPage:$page)"
    f"{{{_PAGE} Repos{{{_REPOSITORY}}} Images{{{_IMAGE}}} Layers{{Digest Size}}}}}}"
)
IMAGE = f"query($image:String!){{Image(image:$image){{{_IMAGE}}}}}"
REPOSITORY = (
    "query($repository:String!){ExpandedRepoInfo(repo:$repository)"
    f"{{Summary{{{_REPOSITORY}}} Images{{{_IMAGE}}}}}}}"
)
MARKS = (
    "query($repository:String!){ExpandedRepoInfo(repo:$repository)"
    "{Summary{Name IsBookmarked IsStarred}}}"
)
ANY_IMAGE = (
    "query($repository:String!){ImageList(repo:$repository,requestedPage:{limit:1,offset:0})"
    "{Results{RepoName Tag}}}"
)
CVES_OF_IMAGE = (
    "query($image:String!,$page:PageInput,$text:String,$severity:String)"
    "{CVEListForImage(image:$image,requestedPage:$page,searchedCVE:$text,severity:$severity)"
    f"{{{_PAGE} CVEList{{{_CVE}}}}}}}"
)
CVE_DIFF = (
    "query($image:ImageInput!,$other:ImageInput!,$page:PageInput)"
    "{CVEDiffListForImages(minuend:$image,subtrahend:$other,requestedPage:$page)"
    f"{{Summary{{Count}} CVEList{{{_CVE}}}}}}}"
)


def _paged(name: str, argument: str, variable: str, fields: str) -> str:
    given, used = (f"${variable}:String!,", f"{argument}:${variable},") if variable else ("", "")
    return (
        f"query({given}$page:PageInput){{{name}({used}requestedPage:$page)"
        f"{{{_PAGE} Results{{{fields}}}}}}}"
    )


IMAGES = _paged("ImageList", "repo", "repository", _IMAGE)
PUSH_TIMES = _paged("ImageList", "repo", "repository", "Tag Digest PushTimestamp")
NEWEST = _paged("RepoListWithNewestImage", "", "", _REPOSITORY)
FOR_DIGEST = _paged("ImageListForDigest", "id", "digest", _IMAGE)
BASE = _paged("BaseImageList", "image", "image", _IMAGE)
DERIVED = _paged("DerivedImageList", "image", "image", _IMAGE)
STARRED = _paged("StarredRepos", "", "", _REPOSITORY)
BOOKMARKED = _paged("BookmarkedRepos", "", "", _REPOSITORY)
WITH_CVE = _paged("ImageListForCVE", "id", "cve", _IMAGE)
WITH_CVE_FIXED = (
    "query($cve:String!,$repository:String!,$page:PageInput)"
    "{ImageListWithCVEFixed(id:$cve,image:$repository,requestedPage:$page)"
    f"{{{_PAGE} Results{{{_IMAGE}}}}}}}"
)
