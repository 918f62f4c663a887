"""A study file run from scans to report, and its models applied to new scans."""
