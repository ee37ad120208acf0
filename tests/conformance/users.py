"""The users that the suites know, each with the same keys at the store and at s3veil, so that their names agree too."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class User:
    section: str  # of the suite's configuration
    user_id: str
    name: str
    email: str
    access_key: str
    secret_key: str
    tenant: str = ""


USERS = [
    User("s3 main", "testid", "M. Tester", "tester@example.com", "0555b35654ad1656d804", "main-secret-key-of-the-conformance-tests"),
    User("s3 alt", "alternative", "john.doe", "john.doe@example.com", "NOPQRSTUVWXYZABCDEFG", "alt-secret-key-of-the-conformance-tests"),
    User("s3 tenant", "tenanteduser", "tenanteduser", "tenanted@example.com", "HIJKLMNOPQRSTUVWXYZA", "tenant-secret-key-of-the-conformance", "testx"),
    User("iam", "iamuser", "iamuser", "iam@example.com", "ABCDEFGHIJKLMNOPQRST", "iam-secret-key-of-the-conformance-tests"),
    User("iam root", "RGW11111111111111111", "root", "root@example.com", "AAAAAAAAAAAAAAAAAAAA", "root-secret-key-of-the-conformance-tests"),
    User("iam alt root", "RGW22222222222222222", "altroot", "altroot@example.com", "BBBBBBBBBBBBBBBBBBBB", "altroot-secret-key-of-the-conformance"),
]
MAIN = USERS[0]
