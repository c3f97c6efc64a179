"""The config key ``compare``: the arms that it asks for, and what cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from medtransfer.comparison.plan import build_arms, read_comparison
from medtransfer.errors import ConfigError

ONE = {"sources": {"a": "a.pt"}}


def arms(compare, finetune=None, transfer=None):
    return {arm.name: arm for arm in build_arms(read_comparison(compare), finetune, transfer)}


def test_scratch_comes_first_then_every_policy_of_every_source():
    found = arms({"sources": {"a": "a.pt", "b": {"source": "b.pt"}}, "policies": ["frozen", "full"]})
    assert list(found) == ["scratch", "a/frozen", "a/full", "b/frozen", "b/full"]
    assert (found["scratch"].source, found["scratch"].transfer) == (None, {})
    assert (found["b/full"].source, found["b/full"].transfer["source"]) == ("b", "b.pt")


def test_the_transfer_of_a_source_goes_before_that_of_all_and_the_configs():
    compare = {
        "sources": {"a": "a.pt", "b": {"source": "b.pt", "dialect": "genesis"}},
        "transfer": {"dialect": "medicalnet", "head": "drop"},
    }
    found = arms(compare, transfer={"source": "other.pt", "head": "keep", "min_coverage": 0.3})
    assert found["a/full"].transfer == {
        "source": "a.pt", "dialect": "medicalnet", "head": "drop", "min_coverage": 0.3,
    }  # fmt: skip
    assert found["b/full"].transfer["dialect"] == "genesis"


def test_what_the_config_says_of_fine_tuning_holds_for_each_arm_that_it_concerns():
    finetune = {
        "policy": "lp_ft",
        "share": 0.4,
        "ema": 0.9,
        "no_decay_norms": False,
        "freeze": ["encoder"],
        "freeze_except": ["norms"],
        "l2sp": 0.1,
        "l2sp_parts": ["stem"],
    }
    found = arms({**ONE, "policies": ["lp_ft", "full"]}, finetune)
    assert found["scratch"].finetune == {"policy": "full", "ema": 0.9, "no_decay_norms": False}
    assert found["a/lp_ft"].finetune == finetune
    assert found["a/full"].finetune == {key: finetune[key] for key in finetune if key != "share"} | {"policy": "full"}


def test_policies_as_a_mapping_are_taken_as_they_stand():
    found = arms({**ONE, "policies": {"low": {"policy": "lora", "rank": 2}, "all": {}}}, {"ema": 0.9})
    assert found["a/low"].finetune == {"policy": "lora", "rank": 2, "ema": 0.9}
    assert (found["a/all"].policy, found["a/all"].finetune) == ("all", {"ema": 0.9})


def test_the_command_line_names_the_configs_own_policies():
    compare = {**ONE, "policies": {"low": {"policy": "lora", "rank": 2}, "all": {}}}
    chosen = read_comparison(compare, policies=["low", "frozen"])
    assert chosen.policies == {"low": {"policy": "lora", "rank": 2}, "frozen": {"policy": "frozen"}}
    with pytest.raises(ConfigError, match=r"no policy 'lo'.*Did you mean low"):
        read_comparison(compare, policies=["lo"])


def test_what_is_said_on_top_goes_before_the_config_and_paths_are_paths():
    chosen = read_comparison({**ONE, "cases": [4]}, sources={"b": Path("dir/b.pt")}, cases=None, seeds=[7])
    assert (chosen.sources, chosen.cases, chosen.seeds) == ({"b": "dir/b.pt"}, [4], [7])
    assert read_comparison(None).cases == [4, 8, 16, 32]


@pytest.mark.parametrize(
    "compare, said",
    [
        ({}, "compare.sources is empty: .* NAME=PATH"),
        ([4], "compare must be a dict"),
        ({**ONE, "case": [4]}, "compare has no key 'case'.*cases"),
        ({**ONE, "cases": []}, "`cases` is empty"),
        ({**ONE, "cases": [4, 8, 4]}, "`cases` names one twice: 4, 8, 4"),
        ({**ONE, "cases": [0, 4]}, r"`cases` must be whole numbers from 1 on, got \[0, 4\]"),
        ({**ONE, "cases": ["x"]}, "compare: .*int.*str"),
        ({**ONE, "seeds": [-1]}, "`seeds` must be whole numbers from 0 on"),
        ({**ONE, "policies": ["full", "full"]}, "`policies` names one twice: full, full"),
        ({**ONE, "policies": ["ful"]}, "no policy 'ful'.*full"),
        ({**ONE, "policies": {}}, "`policies` is empty"),
        ({**ONE, "policies": {"low": {"policy": "lora", "ranks": 2}}}, "compare.policies.low: finetune: .*ranks"),
        ({**ONE, "policies": {"low": {"policy": "full", "rank": 2}}}, "compare.policies.low: .*rank belongs to"),
        ({**ONE, "policies": {"a/b": {}}}, "compare.policies: 'a/b' cannot be a name"),
        ({"sources": {"scratch": "a.pt"}}, "compare.sources: 'scratch' cannot be a name"),
        ({"sources": {"a b": "a.pt"}}, "compare.sources: 'a b' cannot be a name"),
        ({"sources": {"a": ""}}, "compare.sources.a names no weights"),
        ({"sources": {"a": {"head": "drop"}}}, "compare.sources.a names no weights"),
        ({"sources": {"a": {"source": "a.pt", "heads": 1}}}, "the transfer from 'a' has no key 'heads'.*head"),
        ({"sources": {"a": "a.pt", "A": "b.pt"}}, "the arms a/frozen and A/frozen would have one folder"),
        (
            {"sources": {"a": "a.pt", "a__b": "b.pt"}, "policies": {"b__c": {}, "c": {}}},
            "the arms a/b__c and a__b/c would have one folder, a__b__c",
        ),
    ],
)
def test_refusals(compare, said):
    with pytest.raises(ConfigError, match=said) as raised:
        arms(compare)
    assert raised.value.exit_code == 2


def test_a_fault_in_the_configs_own_fine_tuning_is_told():
    with pytest.raises(ConfigError, match="layer_dekay"):
        arms(ONE, {"layer_dekay": 0.5})
